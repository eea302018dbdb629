"""The pure decision (`retry_policy`), fed with the clock and the dice of this process."""

from datetime import UTC, datetime
from random import random

from domain.jobs.attempts import ClaimedJob
from domain.jobs.kind import policy_of
from domain.jobs.retry_policy import Decision, Ending, decide


def decided(job: ClaimedJob, ending: Ending) -> Decision:
    """What becomes of this job, now."""
    jitter = random()  # noqa: S311  # no secret
    return decide(
        job.attempt, job.max_attempts, ending, policy_of(job.kind), datetime.now(UTC), jitter, job.deadline_at
    )
