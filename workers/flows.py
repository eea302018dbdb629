"""What the relay remembers between two passes: which rows it rang, how fast each kind is taken, whose turn it is.

Nothing here is truth: a relay that starts with an empty memory rings some rows twice, which the claim sorts out. Pure;
times are of the monotonic clock, in seconds, but for `since`, which is the database's.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self

import msgspec

from domain.jobs.due import FIRST_VISIBILITY_S, LONGEST_VISIBILITY_S, DueRows, FlowKey

#: Between these bounds moves how many jobs of a kind may be rung and not yet claimed.
SMALLEST_WINDOW = 16
LARGEST_WINDOW = 1_600
GROWTH = 4
#: Who waits longer than this in Redis waits behind too many: the window shrinks.
LONGEST_WAIT_S = 0.25
#: A window is handed out in so many bells, so that every worker gets some.
BELLS_PER_WINDOW = 16
#: A transaction that began before a pass and commits after it adds rows behind what the pass has read. Each pass looks
#: back this far; once in a while one looks back all the way.
LOOK_BACK = timedelta(seconds=1)
LOOK_BACK_ALL_EVERY_S = 15.0
#: A bell is heard and claimed within milliseconds. Where it lies no more, and nobody has claimed for this long, it went
#: down with who heard it.
LOST_AFTER_S = 1
#: An empty flow is remembered this long, since looking for it anew costs more than looking into it.
REMEMBER_EMPTY_S = 30.0
MOST_EMPTY = 256

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Ring(msgspec.Struct, frozen=True):
    """When a row was rung last, and how often; `alone`: in a bundle of its own."""

    at: float
    times: int
    alone: bool = False

    def is_over(self, now: float, *, list_is_empty: bool = False) -> bool:
        """Nobody has claimed it for so long that it rings again: sooner when no bell lies in the list of its queue."""
        first_s = LOST_AFTER_S if list_is_empty else FIRST_VISIBILITY_S
        return now - self.at >= min(LONGEST_VISIBILITY_S, first_s << min(self.times - 1, 6))


class Window:
    """How many jobs of one kind may lie in Redis: as many as are taken within a fraction of a second.

    A bundle takes at most `most` jobs. When its jobs run `together`, bundles are always as large as can be.
    """

    def __init__(self, most: int = 100, *, together: bool = False) -> None:
        self._most, self._smallest_bundle = most, most if together else 1
        self._smallest = max(SMALLEST_WINDOW, 4 * self._smallest_bundle)
        self.size = self._smallest
        self._shrunk_at = float("-inf")
        self._was_full = False

    def adapt(self, unclaimed: int, longest_wait_s: float, now: float) -> bool:
        """Grows when the workers emptied a full one, shrinks when jobs wait in it for too long. True = it grew."""
        if longest_wait_s > LONGEST_WAIT_S:
            if now - self._shrunk_at > LONGEST_WAIT_S:
                self.size, self._shrunk_at = max(self._smallest, self.size // 2), now
        elif self._was_full and unclaimed <= self.size // 2:
            grown = self.next_size
            has_grown, self.size, self._was_full = grown > self.size, grown, False
            return has_grown
        return False

    @property
    def next_size(self) -> int:
        """The most it can be after the next adaptation."""
        return min(LARGEST_WINDOW, self.size * GROWTH) if self._was_full else self.size

    def note_full(self) -> None:
        """There was more to ring than room."""
        self._was_full = True

    @property
    def bundle(self) -> int:
        """How many jobs travel together: one when the kind is idle or slow, up to the most when it is behind."""
        return max(self._smallest_bundle, min(self._most, self.size // BELLS_PER_WINDOW))


class Waiting(msgspec.Struct, frozen=True):
    """The ids of a flow that may ring now; those `alone` in bundles of one."""

    flow: "Flow"
    together: list[str]
    alone: list[str]

    def __len__(self) -> int:
        return len(self.together) + len(self.alone)

    def first(self, count: int) -> Self:
        alone = self.alone[:count]
        return type(self)(self.flow, self.together[: count - len(alone)], alone)


class Flow:
    """One tenant's jobs of one kind in one queue."""

    def __init__(self, key: FlowKey, now: float) -> None:
        self.key = key
        #: Rung and not yet claimed, as of the last pass; each with its last ring.
        self.rung: dict[str, Ring] = {}
        self._lapsed: dict[str, Ring] = {}
        #: Rung, and not among what the last pass read: claimed, or behind more urgent ones.
        self.unseen: dict[str, Ring] = {}
        self.had_rows, self._list_is_empty = True, False
        self._since = _EVER
        self._looked_back_at = self.served_at = self.seen_at = now

    def start_of_scan(self, now: float) -> datetime:
        """Rows due before this moment are gone."""
        if now - self._looked_back_at > LOOK_BACK_ALL_EVERY_S:
            self._looked_back_at = now
            return _EVER
        return self._since

    def read(self, rows: DueRows, now: float, *, list_is_empty: bool = False) -> Waiting:
        """Takes in what a pass read: answers who may ring now. Rows that are missing are taken for claimed.

        `list_is_empty`: no bell lay in the list of this queue just before the rows were read.
        """
        self.served_at, self._list_is_empty = now, list_is_empty
        self._since = (rows.oldest or rows.read_at) - LOOK_BACK
        self.had_rows = rows.oldest is not None
        if self.had_rows:
            self.seen_at = now
        rung, before = self.rung, self._lapsed | self.rung
        self.rung, self._lapsed = {}, {}
        waiting = Waiting(
            self, self._unrung(rows.together, before, now), self._unrung(rows.alone, before, now, alone=True)
        )
        self.unseen = {job_id: ring for job_id, ring in rung.items() if job_id not in self.rung} if rows.is_cut else {}
        return waiting

    def note_standing(self, ids: Iterable[str], now: float) -> None:
        """These of the unseen have not been claimed: they are rung as before."""
        self.rung |= {job_id: self.unseen[job_id] for job_id in ids if not self._may_ring(self.unseen[job_id], now)}

    def _unrung(self, ids: Sequence[str], before: Mapping[str, Ring], now: float, *, alone: bool = False) -> list[str]:
        unrung = []
        for job_id in ids:
            ring = before.get(job_id)
            # Whoever travels otherwise than when it was rung was claimed and put back meanwhile: it is another row.
            if ring is None or ring.alone != alone:
                unrung.append(job_id)
            elif self._may_ring(ring, now):
                unrung.append(job_id)
                self._lapsed[job_id] = ring
            else:
                self.rung[job_id] = ring
        return unrung

    def _may_ring(self, ring: Ring, now: float) -> bool:
        return ring.is_over(now, list_is_empty=self._list_is_empty)

    def note_rung(self, ids: Iterable[str], now: float, *, alone: bool = False) -> int:
        """They ring now. Answers how many of them had rung before."""
        again = 0
        for job_id in ids:
            before = self._lapsed.pop(job_id, None)
            again += before is not None
            self.rung[job_id] = Ring(now, before.times + 1 if before else 1, alone)
        return again

    def longest_wait_s(self, now: float) -> float:
        """How long the first of the rung has waited for its claim."""
        return now - min((ring.at for ring in self.rung.values()), default=now)


def evenly(room: int, wants: Sequence[int]) -> list[int]:
    """How much of the room each gets: the same for all, but nobody more than they want; others share what is left."""
    given = [0] * len(wants)
    hungry = [at for at, want in enumerate(wants) if want > 0]
    while room > 0 and hungry:
        share = max(1, room // len(hungry))
        for at in hungry:
            portion = min(share, wants[at] - given[at], room)
            given[at] += portion
            room -= portion
        hungry = [at for at in hungry if given[at] < wants[at]]
    return given
