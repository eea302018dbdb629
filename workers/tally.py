"""Counting claimed and ended jobs, many at a time: what is done once per job must cost next to nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence

from domain.database import database_time
from domain.ids import made_at
from domain.jobs.attempts import ClaimedJob
from ops.telemetry import JOB_ATTEMPTS, JOB_DURATION, JOB_WAIT, ORDER_PROCESSING, OUTBOX_RINGS, log

logger = log(__name__)


def count_claimed(jobs: Sequence[ClaimedJob]) -> None:
    """How long each of these jobs waited, from due to claimed."""
    for kind, mates in _by_kind(jobs).items():
        JOB_WAIT.observe_all(kind, [max(0.0, (job.started_at - job.due_at).total_seconds()) for job in mates])


def count_ended(ended: Sequence[tuple[ClaimedJob, str]]) -> None:
    """How each of these attempts ended, by its outcome, and how long it took from its claim."""
    for (kind, outcome), count in Counter((job.kind, outcome) for job, outcome in ended).items():
        JOB_ATTEMPTS.labels(kind, outcome).inc(count)
    now = database_time.now()
    for kind, mates in _by_kind(job for job, _ in ended).items():
        JOB_DURATION.observe_all(kind, [(now - job.started_at).total_seconds() for job in mates])


def count_decided(jobs: Iterable[ClaimedJob]) -> None:
    """How long the orders of these root jobs waited for their decision, since their ids were made."""
    now = database_time.now()
    for job in jobs:
        if job.order_id is not None:
            # There are no payments: the label is there for dashboards that group by it.
            ORDER_PROCESSING.labels(str(job.tenant_id), "none").observe((now - made_at(job.order_id)).total_seconds())


def _by_kind(jobs: Iterable[ClaimedJob]) -> dict[str, list[ClaimedJob]]:
    kinds: dict[str, list[ClaimedJob]] = {}
    for job in jobs:
        kinds.setdefault(job.kind, []).append(job)
    return kinds


def count_rings(queue: str, first: int, again: int) -> None:
    """So many rows of this queue were rung for the first time, so many had rung before."""
    for is_again, count in ((False, first), (True, again)):
        if count:
            OUTBOX_RINGS.labels(queue, str(is_again).lower()).inc(count)
    if again:
        logger.info("outbox.rung_again", queue=queue, rows=again)
