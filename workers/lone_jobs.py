"""Whose turn it is of the jobs that were in a crash: one at a time in a process, so that the guilty goes down alone.

No thread waits for a turn: the bell is left here, for whoever ends one.
"""

import time
from collections import deque
from collections.abc import Sequence
from threading import Lock
from uuid import UUID

from domain.jobs.retry_policy import MAX_CRASHES

#: What has run for so long did not bring its process down at once, and others need not wait for its end.
TURN_S = 10.0


class LoneJobs:
    """Called by many threads. A job that one more crash would bury is in no crash but its own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: deque[Sequence[UUID]] = deque(maxlen=1_000)  # more of them ring again
        self._turns: dict[UUID, float] = {}  # until when others wait for each of those that run

    def leave(self, ids: Sequence[UUID]) -> None:
        """A bell whose job may be such a one."""
        self._left.append(ids)

    def take_turn(self, lease_id: UUID) -> tuple[Sequence[UUID], int] | None:
        """The bell that was left first, to be claimed under this lease if its job was in at most so many crashes.

        None = there is none, or it is the turn of another. `end_turn` must follow.
        """
        with self._lock:
            now = time.monotonic()
            if not self._left or any(now < until for until in self._turns.values()):
                return None
            most_crashes = MAX_CRASHES - 2 if self._turns else MAX_CRASHES
            self._turns[lease_id] = now + TURN_S
            return self._left.popleft(), most_crashes

    def keep_turn(self, lease_id: UUID) -> None:
        """The others wait for its end, however long it takes: it is its last chance."""
        with self._lock:
            if lease_id in self._turns:
                self._turns[lease_id] = float("inf")

    def end_turn(self, lease_id: UUID) -> None:
        """It is done, or given up."""
        with self._lock:
            self._turns.pop(lease_id, None)
