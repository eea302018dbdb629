"""What a handler gets beside its arguments: who it is, what it may use, and how its effects commit with its outcome."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from domain.database import database_time, end_within
from domain.event_types import Event
from domain.events import Occurrence
from domain.jobs.attempts import ClaimedJob, hold, report_progress_if_held
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of, is_plain, plain_finish_of
from domain.jobs.groups import Children, Family, children_of
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import NewJob, new_job
from domain.jobs.retry_policy import Ending, Errored, Snooze, Snoozed, Succeeded
from domain.lanes.lane_rules import Observation
from domain.reports.store import ReportStore
from ops.telemetry import FINISHES_REFUSED, log
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.holdings import Holdings
from workers.recorder import Outcome, write_outcomes

logger = log(__name__)

#: What a success tells about its lane.
WENT_WELL = Observation(True)

Args = TypeVar("Args")
Answer = TypeVar("Answer")


class LeaseLost(Exception):
    """Another worker has taken the job over: nothing of this attempt may commit."""


class Cancelled(Exception):
    """Somebody asked for this job to be cancelled, and its handler stopped."""


class Resources(msgspec.Struct, frozen=True):
    """What the process built once and every handler may use."""

    engine: Engine
    holdings: Holdings
    mailer: Mailer
    http: GuardedHttp
    reports: ReportStore
    secret_key: bytes
    #: Wakes the relay: the transaction just committed may have made obligations that are due now.
    ring: Callable[[], None]
    #: Tells whoever waits for news of these jobs that a commit has changed them.
    announce: Callable[[Iterable[UUID]], None] = lambda _job_ids: None


class JobContext:
    """One attempt of one job."""

    def __init__(self, job: ClaimedJob, resources: Resources, timeout_s: float) -> None:
        self.job_id: UUID = job.id
        self.tenant_id: UUID = job.tenant_id
        self.attempt = job.attempt
        self.max_attempts = job.max_attempts
        self.claim = job.claim
        self.deadline = time.monotonic() + _time_left_s(job, timeout_s)
        self._ends_at = time.monotonic() + timeout_s
        self.mailer, self.http, self.reports = resources.mailer, resources.http, resources.reports
        self.secret_key = resources.secret_key
        #: What a poller of the job sees, unless the handler returns something.
        self.result: object = None
        #: What operators see of this attempt.
        self.detail: dict[str, Any] | None = None
        #: What this attempt tells about the job's lane.
        self.seen: Observation | None = None
        self.occurrences: list[Occurrence] = []
        self.families: list[Family] = []
        self.finished = False
        self.job, self._resources = job, resources
        self._connection: Connection | None = None

    @cached_property
    def log(self) -> Any:
        """A logger that names the job and the request behind it."""
        return log(self.job.kind).bind(job_id=str(self.job_id), attempt=self.attempt, **_request(self.job))

    @property
    def connection(self) -> Connection:
        """A connection for reading, opened at first use and closed after the attempt."""
        if self._connection is None:
            self._connection = self._resources.engine.connect()
        return self._connection

    def close(self) -> None:
        """Gives the reading connection back."""
        if self._connection is not None:
            # One that broke says so here a second time, and its pool has dropped it: that is not how the job ended.
            with suppress(SQLAlchemyError):
                self._connection.close()

    async def in_thread(self, function: Callable[[Connection], Answer]) -> Answer:
        """For async handlers: `at_once` in a thread."""
        return await asyncio.to_thread(self.at_once, function)

    def at_once(self, function: Callable[[Connection], Answer]) -> Answer:
        """The function with a connection of its own, committed when it returns, however the attempt ends."""
        with self._resources.engine.begin() as tx:
            return function(tx)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """What a poller of the job sees while it runs. Raises Cancelled when somebody asked for that."""
        with self._resources.engine.begin() as tx:
            report_progress_if_held(tx, self.job, done, total, message)
        self._resources.announce([self.job_id])
        self.stop_if_cancelled()

    def stop_if_cancelled(self) -> None:
        """A good place to stop, if somebody asked for this job to be cancelled: raises Cancelled."""
        if self._resources.holdings.is_cancelled(self.job_id):
            raise Cancelled

    def publish(self, event: Event, subject: UUID | None = None, sequence: int = 1) -> None:
        """The event is published in the transaction that records this attempt's success, and only then."""
        job = self.job
        occurrence = Occurrence(job.tenant_id, subject or job.id, sequence, event, job.trace_context, job.deadline_at)
        self.occurrences.append(occurrence)

    def spawn(
        self, children: Sequence[JobArgs], then: JobArgs | None = None, *, only_if_all_succeed: bool = False
    ) -> None:
        """These jobs exist from the transaction that records this attempt's success, and only then.

        `then` waits for all the children; see `domain.jobs.groups.enqueue_group`. All inherit the order, the trace and
        the deadline of this job.
        """
        last = None if then is None else self._heir(then)
        self.families.append(Family([self._heir(args) for args in children], last, only_if_all_succeed))

    def _heir(self, args: JobArgs) -> NewJob:
        job = self.job
        trace = None if job.trace_context is None else msgspec.json.encode(job.trace_context).decode()
        return new_job(
            args, tenant_id=job.tenant_id, order_id=job.order_id, trace_context=trace, deadline_at=job.deadline_at
        )

    @cached_property
    def children(self) -> Children:
        """What became of the jobs that this one waited for, when it fired; all 0 when it waited for none."""
        found = self.at_once(lambda tx: children_of(tx, self.tenant_id, self.job_id))
        return found or Children(0, 0, 0, 0, 0)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Database effects and the success of the job commit together, or not at all.

        Raises LeaseLost, before any effect, when another worker has taken the job over. Set `ctx.result` inside. It
        ends when the job's time is up, whatever runs in it: nobody could record meanwhile that the job is late.
        """
        with self._resources.engine.begin() as tx:
            end_within(tx, self._ends_at - time.monotonic())
            if not hold(tx, [self.job]):
                raise LeaseLost
            yield tx
            self.seen = self.seen or WENT_WELL
            write_outcomes(tx, [self.outcome(Succeeded(self.result))])
        self.finished = True
        self._resources.announce([self.job_id])
        self._resources.ring()

    def outcome(self, ending: Ending) -> Outcome:
        """The record of this attempt. Its events and jobs count only if it succeeded."""
        if self.detail is None and is_plain(ending):
            finish = plain_finish_of(self.job)
        else:
            finish = finish_of(self.job, ending, decided(self.job, ending), self.detail)
        if not isinstance(ending, Succeeded):
            return Outcome(self.job, finish, self.seen)
        return Outcome(self.job, finish, self.seen, self.occurrences, self.families)


class BundleJob(msgspec.Struct, Generic[Args]):
    """One job of a bulk bundle: its arguments, and the ending its handler gives it."""

    job: ClaimedJob
    args: Args
    ending: Ending = Succeeded()

    @property
    def id(self) -> UUID:
        return self.job.id

    def succeed(self, result: object) -> None:
        self.ending = Succeeded(result)

    def fail(self, why: str) -> None:
        """This job is dead: trying again cannot help. Its mates are not touched."""
        self.ending = Errored("PermanentFailure", why, permanent=True)

    def snooze(self, seconds: float, why: str) -> None:
        """This job is too early; its mates are not held up."""
        self.ending = Snoozed(seconds, str(Snooze(seconds, why)))


class BundleContext(Generic[Args]):
    """A bundle of jobs of one kind for a bulk handler, all of whose effects commit in one transaction.

    `ends_at`, of the monotonic clock, is when their time is up.
    """

    def __init__(self, jobs: list[BundleJob[Args]], resources: Resources, ends_at: float) -> None:
        self._jobs, self._resources, self._ends_at = jobs, resources, ends_at
        #: What its transaction has recorded, once that has committed.
        self.outcomes: list[Outcome] = []
        self.committed = False

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, list[BundleJob[Args]]]]:
        """The open transaction, and the jobs still held under their claims. Effects and endings commit together.

        Jobs that another worker has taken over are missing from the list; the handler must leave them alone. It ends
        when the jobs' time is up, whatever runs in it.
        """
        with self._resources.engine.begin() as tx:
            end_within(tx, self._ends_at - time.monotonic())
            held_ids = hold(tx, [mate.job for mate in self._jobs])
            held = [mate for mate in self._jobs if mate.id in held_ids]
            if refused := len(self._jobs) - len(held):
                FINISHES_REFUSED.inc(refused)
                logger.warning("finish.refused", jobs=refused)
            yield tx, held
            outcomes = [_outcome(mate) for mate in held]
            write_outcomes(tx, outcomes)
        self.outcomes, self.committed = outcomes, True
        self._resources.announce(outcome.job.id for outcome in outcomes)
        self._resources.ring()


def _outcome(mate: BundleJob[Any]) -> Outcome:
    seen = WENT_WELL if isinstance(mate.ending, Succeeded) else None
    return Outcome(mate.job, finish_of(mate.job, mate.ending, decided(mate.job, mate.ending)), seen)


def _time_left_s(job: ClaimedJob, timeout_s: float) -> float:
    if job.deadline_at is None:
        return timeout_s
    return min(timeout_s, (job.deadline_at - database_time.now()).total_seconds())


def _request(job: ClaimedJob) -> dict[str, str]:
    request_id = (job.trace_context or {}).get("requestId")
    return {"request_id": request_id} if request_id else {}
