"""The jobs this process holds, and who may decide about each: exactly one of handler, watchdog and shutdown."""

import time
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from uuid import UUID

import msgspec

from domain.jobs.attempts import ClaimedJob


class Held(msgspec.Struct):
    """A claimed job in this process. Times are of the monotonic clock, in seconds."""

    job: ClaimedJob
    timeout_s: float
    bundle: int
    started_at: float | None = None
    decided: bool = False
    cancel_requested: bool = False


class Holdings:
    """Thread-safe. A job is held from its claim until its finish is written, and its lease is renewed meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[UUID, Held] = {}
        self._bundles = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, jobs: Sequence[ClaimedJob], timeout_s: float) -> None:
        """These jobs were claimed together."""
        with self._lock:
            self._bundles += 1
            self._held.update({job.id: Held(job, timeout_s, self._bundles) for job in jobs})

    def start(self, job: ClaimedJob) -> bool:
        """The job's time begins. False when somebody has decided about it already: it must not run."""
        with self._lock:
            held = self._held.get(job.id)
            if held is None or held.decided or held.job.claim != job.claim:
                return False
            held.started_at = time.monotonic()
            return True

    def decide(self, job: ClaimedJob) -> bool:
        """True for the first who asks: the outcome is theirs to record. False for everyone after."""
        with self._lock:
            held = self._held.get(job.id)
            if held is None or held.decided or held.job.claim != job.claim:
                return False
            held.decided = True
            return True

    def forget(self, jobs: Iterable[ClaimedJob]) -> None:
        """Their outcome is written, or was refused: they are held no more, unless this process claimed them anew."""
        with self._lock:
            for job in jobs:
                if (held := self._held.get(job.id)) is not None and held.job.claim == job.claim:
                    del self._held[job.id]

    def claims(self) -> list[tuple[UUID, int]]:
        """What the lease of this process covers."""
        with self._lock:
            return [(held.job.id, held.job.claim) for held in self._held.values()]

    def note(self, alive: Mapping[UUID, bool]) -> None:
        """What the renewal answered: job id -> cancel was requested."""
        with self._lock:
            for job_id, cancel_requested in alive.items():
                if job_id in self._held:
                    self._held[job_id].cancel_requested = cancel_requested

    def is_cancelled(self, job_id: UUID) -> bool:
        with self._lock:
            return job_id in self._held and self._held[job_id].cancel_requested

    def overdue(self) -> tuple[list[Held], list[ClaimedJob]]:
        """What is past its time, and the bundle mates that wait behind it and have not started."""
        now = time.monotonic()
        with self._lock:
            open_ = [held for held in self._held.values() if not held.decided]
            late = [held for held in open_ if held.started_at is not None and now - held.started_at > held.timeout_s]
            blocked = {held.bundle for held in late}
            mates = [held.job for held in open_ if held.bundle in blocked and held.started_at is None]
            return late, mates

    def undecided(self) -> list[ClaimedJob]:
        """What would have to be handed back if the process stopped now."""
        with self._lock:
            return [held.job for held in self._held.values() if not held.decided]
