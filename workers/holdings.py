"""The jobs this process holds, and who may decide about each: exactly one of handler, watchdog and shutdown."""

import time
from collections.abc import Iterable, Sequence
from threading import Lock
from uuid import UUID

import msgspec

from domain.jobs.attempts import ClaimedJob

#: How long a job may wait, claimed, behind slower mates of its bundle before others get it.
MATES_WAIT_S = 1.0


class Held(msgspec.Struct):
    """A claimed job in this process. Times are of the monotonic clock, in seconds."""

    job: ClaimedJob
    timeout_s: float
    lease_id: UUID
    claimed_at: float
    started_at: float | None = None
    #: Started with mates in one transaction: that they are late together says nothing of any of them.
    together: bool = False
    decided: bool = False
    cancel_requested: bool = False


class Holdings:
    """Thread-safe. A job is held from its claim until its finish is written, and its lease is renewed meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[UUID, Held] = {}
        self._leases: dict[UUID, int] = {}  # how many jobs of each are still held
        self._ended: set[UUID] = set()
        self._in_doubt: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, job: ClaimedJob) -> bool:
        """Its outcome is not written yet."""
        with self._lock:
            held = self._held.get(job.id)
            return held is not None and held.job.claim == job.claim

    def wait_until_written(self, jobs: Sequence[ClaimedJob], limit_s: float) -> None:
        """None of them is held any more when this returns, or the time is up."""
        until = time.monotonic() + limit_s
        while any(self.holds(job) for job in jobs) and time.monotonic() < until:
            time.sleep(0.005)

    def hold(self, jobs: Sequence[ClaimedJob], timeout_s: float, lease_id: UUID) -> None:
        """These jobs were claimed together, under this lease."""
        now = time.monotonic()
        with self._lock:
            for job in jobs:
                self._let_go(job.id)  # claimed anew, before the old outcome was written
                self._held[job.id] = Held(job, timeout_s, lease_id, now)
            self._leases[lease_id] = self._leases.get(lease_id, 0) + len(jobs)

    def start(self, job: ClaimedJob, *, together: bool = False) -> bool:
        """The job's time begins. False when somebody has decided about it already: it must not run."""
        with self._lock:
            held = self._held.get(job.id)
            if held is None or held.decided or held.job.claim != job.claim:
                return False
            held.started_at, held.together = time.monotonic(), together
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
        """Their outcome is written: they are held no more, unless this process claimed them anew."""
        with self._lock:
            for job in jobs:
                if (held := self._held.get(job.id)) is not None and held.job.claim == job.claim:
                    self._let_go(job.id)

    def lose(self, jobs: Iterable[ClaimedJob]) -> None:
        """Somebody else has decided about them, as far as can be seen, which a failover may take back.

        Held no more either, but their lease is left to run out: should they still run under it, the rescuer finds them.
        """
        jobs = list(jobs)
        with self._lock:
            for job in jobs:
                if (held := self._held.get(job.id)) is not None and held.job.claim == job.claim:
                    self._in_doubt.add(held.lease_id)
        self.forget(jobs)

    def _let_go(self, job_id: UUID) -> None:
        if (held := self._held.pop(job_id, None)) is not None:
            self._leases[held.lease_id] -= 1
            if not self._leases[held.lease_id]:
                del self._leases[held.lease_id]
                if held.lease_id in self._in_doubt:
                    self._in_doubt.remove(held.lease_id)
                else:
                    self._ended.add(held.lease_id)

    def leases(self) -> tuple[list[UUID], list[UUID]]:
        """Those to renew, and those whose jobs have all ended; see `dropped`."""
        with self._lock:
            return list(self._leases), list(self._ended)

    def dropped(self, ended: Iterable[UUID]) -> None:
        """These ended leases are gone from PostgreSQL."""
        with self._lock:
            self._ended.difference_update(ended)

    def running(self) -> list[UUID]:
        """The jobs whose handlers are at work: those that could notice that somebody wants them cancelled."""
        with self._lock:
            return [job_id for job_id, held in self._held.items() if held.started_at is not None and not held.decided]

    def note_asked_to_stop(self, job_ids: Iterable[UUID]) -> None:
        """Somebody asked for these jobs to be cancelled."""
        with self._lock:
            for job_id in job_ids:
                if job_id in self._held:
                    self._held[job_id].cancel_requested = True

    def is_cancelled(self, job_id: UUID) -> bool:
        with self._lock:
            return job_id in self._held and self._held[job_id].cancel_requested

    def overdue(self) -> tuple[list[Held], list[ClaimedJob]]:
        """What is past its time, and what has waited too long behind the mates of its bundle."""
        now = time.monotonic()
        with self._lock:
            open_ = [held for held in self._held.values() if not held.decided]
            late = [held for held in open_ if held.started_at is not None and now - held.started_at > held.timeout_s]
            waiting = [held for held in open_ if held.started_at is None and now - held.claimed_at > MATES_WAIT_S]
            return late, [held.job for held in waiting]

    def undecided(self) -> list[ClaimedJob]:
        """What would have to be handed back if the process stopped now."""
        with self._lock:
            return [held.job for held in self._held.values() if not held.decided]
