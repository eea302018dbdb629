"""The pure decision, fed with this process's clock and dice."""

from datetime import UTC, datetime
from random import random

from domain.jobs.attempts import ClaimedJob
from domain.jobs.kind import KINDS
from domain.jobs.retry_policy import Backoff, Decision, Ending, RetryPolicy, decide

#: For kinds this code does not know: slow enough for a deploy to bring the code that does.
UNKNOWN_KIND = Backoff(max_attempts=8, base=15.0, cap=600.0)


def policy_of(kind: str) -> RetryPolicy:
    return KINDS[kind].retry if kind in KINDS else UNKNOWN_KIND


def decided(job: ClaimedJob, ending: Ending) -> Decision:
    """What becomes of this job, now."""
    jitter = random()  # noqa: S311  # no secret
    return decide(job.attempt, job.max_attempts, ending, policy_of(job.kind), datetime.now(UTC), jitter)
