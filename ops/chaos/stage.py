"""What stood when: the beginning and the end of each fault, as the harness saw them, in seconds of the wall clock.

Some checks can be failed by some faults: whoever makes one asks here what may excuse it.
"""

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec

#: So long after its end may a fault still be felt: what it killed starts again, what it held up comes all at once.
FELT_FOR_S = 10.0


class Turn(msgspec.Struct):
    """One fault's turn, under way until it has an end. It took effect so many `times`."""

    name: str
    touches: str
    since: float
    until: float = float("inf")
    times: int = 0


class Stage:
    """Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: list[Turn] = []

    @contextmanager
    def standing(self, name: str, touches: str) -> Iterator[Turn]:
        """It stands until this is left, healed or not."""
        turn = Turn(name, touches, time.time())
        with self._lock:
            self._turns.append(turn)
        try:
            yield turn
        finally:
            turn.until = time.time()

    @property
    def turns(self) -> list[Turn]:
        with self._lock:
            return list(self._turns)

    def stood(self, faults: Collection[str], since: float, until: float) -> bool:
        """Whether one of these, by its name or by what it touches, stood at some moment between these times."""
        return any(
            turn.since <= until and since <= turn.until and not {turn.name, turn.touches}.isdisjoint(faults)
            for turn in self.turns
        )

    def felt(self, since: float, until: float = float("inf"), harmless: Collection[str] = ()) -> list[str]:
        """Faults, by name, that somebody may have felt between these times; but for those that touch what is named."""
        return [
            turn.name
            for turn in self.turns
            if turn.touches not in harmless and turn.since < until and turn.until + FELT_FOR_S > since
        ]
