"""Writes how attempts ended: gathered from all threads of the process, one transaction for whatever waits.

Nothing waits for a slow bundle mate, and nothing is dropped: while PostgreSQL is away the outcomes queue up here, and
an outcome that cannot be stored as it is becomes one that can.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.aftermath import settle
from domain.events import Occurrence, publish
from domain.jobs.attempts import ClaimedJob
from domain.jobs.decision import decided
from domain.jobs.finish import Finish, FinishedJob, finish_of
from domain.jobs.groups import Family, enqueue_families
from domain.jobs.retry_policy import Errored
from domain.lanes.lane_rules import Observation
from domain.lanes.lanes import move_lanes
from domain.outages import is_locked
from domain.stored_json import TooLarge
from ops.telemetry import FINISHES_REFUSED, log
from workers.holdings import Holdings
from workers.tally import count_ended

logger = log(__name__)

MOST_AT_ONCE = 1_000
#: Once somebody was seen to hold a row, no row is waited for longer than this, for a while.
_PATIENCE = text("SELECT set_config('lock_timeout', '100ms', true)")
_IMPATIENT_FOR_S = 5.0
#: How long those that are tried one by one may keep the others waiting, and how soon a held one is tried again.
_APART_S = 0.2
_AGAIN_AFTER_S = 1.0
#: What the data of an event or of a lane may raise before PostgreSQL sees it.
_OF_THE_DATA = (TypeError, ValueError, ArithmeticError, RecursionError)


class Outcome(msgspec.Struct, frozen=True):
    """One ended attempt: the row that records it, what it tells about its lane, and what follows from it."""

    job: ClaimedJob
    finish: Finish
    seen: Observation | None = None
    occurrences: Sequence[Occurrence] = ()
    families: Sequence[Family] = ()


class Recorder:
    """One thread, one connection. `put` from any thread; `close` returns when everything put before is written."""

    def __init__(
        self,
        engine: Engine,
        holdings: Holdings,
        ring: Callable[[], None],
        announce: Callable[[Iterable[UUID]], None] = lambda _job_ids: None,
    ) -> None:
        self._engine, self._holdings, self._ring, self._announce = engine, holdings, ring, announce
        self._queue: SimpleQueue[Outcome] = SimpleQueue()
        #: To be tried one by one, because somebody holds the row of one; and those whose own row is held.
        self._apart: deque[Outcome] = deque()
        self._held: list[Outcome] = []
        self._again_at = self._impatient_until = float("-inf")
        self._closing = Flag()
        self._thread = Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        """Will be written within milliseconds; in order of arrival for one job."""
        self._queue.put(outcome)

    def close(self, timeout_s: float) -> bool:
        """Everything put so far is written, True; or the time is up, False."""
        self._closing.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not (self._closing.is_set() and self._queue.empty() and not self._apart and not self._held):
            if batch := self._gather():
                self._write(batch)
            self._write_apart()

    def _gather(self) -> list[Outcome]:
        batch: list[Outcome] = []
        try:
            batch.append(self._queue.get(timeout=0.05))
            while len(batch) < MOST_AT_ONCE:
                batch.append(self._queue.get_nowait())
        except Empty:
            pass
        return batch

    def _write(self, batch: list[Outcome]) -> None:
        """Until it is written. A lost connection or a deadlock is tried again; bad data is written row by row."""
        while True:
            try:
                with self._engine.begin() as tx:
                    if time.monotonic() < self._impatient_until:
                        tx.execute(_PATIENCE)
                    finished = write_outcomes(tx, batch)
            except (DBAPIError, PoolTimeout, *_OF_THE_DATA) as error:
                if _is_of_the_data(error):
                    logger.warning("recorder.bad_data", jobs=len(batch), error=_name(error))
                    self._write_otherwise(batch, error)
                    return
                if is_locked(error):
                    logger.warning("recorder.locked", jobs=len(batch))
                    self._set_apart(batch)
                    return
                logger.warning("recorder.waiting", jobs=len(batch), error=_name(error))
                time.sleep(0.2)
            else:
                self._done(batch, finished)
                return

    def _set_apart(self, batch: Sequence[Outcome]) -> None:
        """The job whose row somebody holds waits for that by itself, and what else ends does not wait for it."""
        now = time.monotonic()
        self._impatient_until = now + _IMPATIENT_FOR_S
        if len(batch) > 1:
            self._apart.extend(batch)
        else:
            self._again_at = self._again_at if self._held else now + _AGAIN_AFTER_S
            self._held.extend(batch)

    def _write_apart(self) -> None:
        """As many of them as time allows, one by one."""
        now = time.monotonic()
        if now >= self._again_at:
            self._apart.extend(self._held)
            self._held.clear()
        while self._apart and time.monotonic() < now + _APART_S:
            self._write([self._apart.popleft()])

    def _write_otherwise(self, batch: Sequence[Outcome], error: Exception) -> None:
        if len(batch) == 1:
            self._write_plainly(batch[0], error)
        else:
            for outcome in batch:
                self._write([outcome])

    def _write_plainly(self, outcome: Outcome, error: Exception) -> None:
        """What the handler wanted stored cannot be: the attempt failed, and says so without that data."""
        ending = unstorable(error)
        if outcome.finish.error_class != ending.error_class:
            job = outcome.job
            self._write([Outcome(job, finish_of(job, ending, decided(job, ending)))])
        else:
            self._holdings.lose([outcome.job])  # the lease runs out and the rescuer takes over

    def _done(self, batch: Sequence[Outcome], finished: Sequence[FinishedJob]) -> None:
        written = {(job.id, job.claim) for job in finished}
        self._holdings.forget(one.job for one in batch if (one.job.id, one.job.claim) in written)
        self._holdings.lose(one.job for one in batch if (one.job.id, one.job.claim) not in written)
        count_ended([(outcome.job, outcome.finish.outcome) for outcome in batch])
        parents = {job.parent_id for job in finished if job.parent_id}
        self._announce([*(job.id for job in finished), *parents])
        if parents or any(outcome.occurrences or outcome.families for outcome in batch):
            self._ring()
        if refused := len(batch) - len(finished):
            FINISHES_REFUSED.inc(refused)
            logger.warning("finish.refused", jobs=refused)


def _is_of_the_data(error: Exception) -> bool:
    """Whether it would be the same another time: what was to be written cannot be."""
    if isinstance(error, DBAPIError):
        # Class 54: more than PostgreSQL can take, which psycopg counts among the errors of its operation.
        limit_exceeded = str(getattr(error.orig, "sqlstate", None)).startswith("54")
        return limit_exceeded or isinstance(error, DataError | IntegrityError)
    return isinstance(error, _OF_THE_DATA)


def unstorable(error: Exception) -> Errored:
    """How an attempt ended whose own ending cannot be stored. Trying again would end the same way."""
    why = str(error) if isinstance(error, TooLarge) else _name(error)
    return Errored("UnstorableOutcome", f"the outcome could not be stored: {why}", permanent=True)


def _name(error: Exception) -> str:
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__


def write_outcomes(tx: Connection, batch: Sequence[Outcome]) -> list[FinishedJob]:
    """The ended attempts and what follows from them, in the caller's transaction. From a refused finish nothing."""
    finished = settle(tx, [outcome.finish for outcome in batch])
    keys = {(job.id, job.claim) for job in finished}  # of several claims of one job only one was held
    written = [outcome for outcome in batch if (outcome.job.id, outcome.job.claim) in keys]
    publish(tx, [event for outcome in written for event in outcome.occurrences])
    enqueue_families(tx, [family for outcome in written for family in outcome.families])
    seen: dict[str, list[Observation]] = {}
    for outcome in batch:
        if outcome.job.lane is not None:
            seen.setdefault(outcome.job.lane, []).append(outcome.seen or Observation(None))
    if seen:
        move_lanes(tx, seen)
    return finished
