"""Counting claimed and ended jobs. This runs once per job, so each label set is looked up once and kept."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from prometheus_client import Counter, Histogram

from domain.jobs.attempts import ClaimedJob
from ops.telemetry import JOB_ATTEMPTS, JOB_DURATION, JOB_WAIT
from workers.recorder import Outcome

#: Kinds and outcomes are few; what is not declared here still fits.
_KEPT = 1_000


@lru_cache(_KEPT)
def _attempts(kind: str, outcome: str) -> Counter:
    return JOB_ATTEMPTS.labels(kind, outcome)


@lru_cache(_KEPT)
def _histogram(metric: Histogram, kind: str) -> Histogram:
    return metric.labels(kind)


def count_claimed(jobs: Sequence[ClaimedJob]) -> None:
    """How long each of these jobs waited, from due to claimed."""
    for job in jobs:
        waited_s = (job.started_at - job.due_at).total_seconds()
        _histogram(JOB_WAIT, job.kind).observe(max(0.0, waited_s))


def count_ended(outcomes: Iterable[Outcome]) -> None:
    """How each of these attempts ended, and how long it took from its claim."""
    now = datetime.now(UTC)
    for outcome in outcomes:
        job = outcome.job
        _attempts(job.kind, outcome.finish.outcome).inc()
        _histogram(JOB_DURATION, job.kind).observe((now - job.started_at).total_seconds())
