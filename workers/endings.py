"""What an exception means for the job under which it was raised: its own failure, or an outage."""

import traceback

from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from domain.jobs.attempts import ClaimedJob
from domain.jobs.retry_policy import Cancelled as CancelledEnding
from domain.jobs.retry_policy import DependencyDown, Ending, Errored, Snooze, Snoozed, Succeeded, category_of, ending_of
from domain.lanes.lane_rules import Observation
from domain.outages import is_outage, is_over_time
from ops.telemetry import JOB_ERRORS, log
from workers.context import Cancelled, JobContext, LeaseLost

logger = log(__name__)

OUTAGE_S = 1.0
#: After so many returned attempts an outage counts as a failure of the job. Which of them were outages the claim does
#: not tell, and with a lane most are because something outside said "not now", perhaps for days.
MOST_RETURNS, MOST_RETURNS_IN_A_LANE = 20, 1_000
#: Not done, and not tried either: it waits at once for a worker, in a bundle of its own.
HANDED_BACK = Snoozed(0.0, "handed back", handed_back=True)
#: Deadlock, serialization failure, lock timeout: nothing is wrong with the job, the same transaction may work now.
_TRANSIENT = {"40P01", "40001", "55P03"}


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _TRANSIENT


def _tell_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.info("transaction.retried", sqlstate=getattr(getattr(error, "orig", None), "sqlstate", None))


PATIENTLY = Retrying(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=0.02, max=0.5),
    before_sleep=_tell_retry,
    reraise=True,
)


def ending_of_handler(error: BaseException, ctx: JobContext) -> Ending | None:
    """What the exception of a handler means. None = another worker has the job: there is nothing to record."""
    if isinstance(error, LeaseLost):
        ctx.log.warning("job.lease_lost")
        return None
    if isinstance(error, Cancelled):
        return CancelledEnding()
    ctx.seen = seen_in(error) or ctx.seen
    if isinstance(error, TimeoutError) and not error.args:
        return _timed_out(ctx.job)
    return ending_of_job(error, ctx.job)


def is_of_all(error: BaseException) -> bool:
    """Whether each job of a bundle would meet it as well: nothing is won by trying them one by one."""
    return isinstance(error, DependencyDown) or is_outage(error)


def seen_in(error: BaseException) -> Observation | None:
    """What this exception tells about the job's lane."""
    return Observation(False, down=True) if isinstance(error, DependencyDown) else None


def _timed_out(job: ClaimedJob) -> Errored:
    JOB_ERRORS.labels(job.kind, "external").inc()
    return Errored("TimedOut", "no result in time")


def ending_of_job(error: BaseException, job: ClaimedJob) -> Ending:
    """An outage of our own database is no fault of the job: it waits a moment and has not used an attempt.

    Unless it happens to this job again and again: then the job is what takes its connection down. What nobody foresaw
    is logged with its stack.
    """
    if is_over_time(error):
        return _timed_out(job)
    is_away = is_outage(error)
    if not isinstance(error, Snooze):
        _count(job, error, "external" if is_away else category_of(error))
    elif error.__cause__ is not None and category_of(error.__cause__) == "external":
        _count(job, error.__cause__, "external")  # to be early is no error, to be sent away is one of the outside
    most = MOST_RETURNS if job.lane is None else MOST_RETURNS_IN_A_LANE
    if is_away and job.claim - job.attempt < most:
        return Snoozed(OUTAGE_S, "the database was away")
    return ending_of(error, traceback.format_exc())


def _count(job: ClaimedJob, error: BaseException, category: str) -> None:
    JOB_ERRORS.labels(job.kind, category).inc()
    if category == "programming":
        logger.error("job.error_unforeseen", kind=job.kind, job_id=str(job.id), attempt=job.attempt, exc_info=error)


def tell(ctx: JobContext, ending: Ending) -> None:
    """The line in the log of how an attempt ended."""
    match ending:
        case Succeeded():
            pass  # its bundle has a line
        case Errored(error_class=error_class):
            ctx.log.warning("job.errored", error=error_class)
        case _:
            ctx.log.info("job.ended", ending=type(ending).__name__.lower())
