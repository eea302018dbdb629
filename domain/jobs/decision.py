"""The pure decision (`retry_policy`), fed with the clock of the database and the dice of this process."""

from random import random

from domain.database import database_time
from domain.jobs.attempts import ClaimedJob
from domain.jobs.kind import policy_of
from domain.jobs.retry_policy import Decision, Ending, decide


def decided(job: ClaimedJob, ending: Ending) -> Decision:
    """What becomes of this job, now."""
    jitter = random()  # noqa: S311  # no secret
    return decide(
        job.attempt, job.max_attempts, ending, policy_of(job.kind), database_time.now(), jitter, job.deadline_at
    )
