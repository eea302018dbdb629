"""The leases of what a process holds: dropped once all is written, left to run out when any of it is in doubt."""

from datetime import UTC, datetime

from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob
from workers.holdings import Holdings

_NOW = datetime.now(UTC)


def a_job() -> ClaimedJob:
    claim, attempt, max_attempts, crashes = 1, 1, 5, 0
    counts = (claim, attempt, max_attempts, crashes)
    return ClaimedJob(
        new_id(), new_id(), "a.kind", "default", {}, *counts, _NOW, _NOW, None, None, None, None, None, None
    )


def test_a_lease_whose_jobs_are_all_written_is_dropped() -> None:
    holdings, jobs, lease_id = Holdings(), [a_job(), a_job()], new_id()
    holdings.hold(jobs, 60.0, lease_id)
    holdings.forget(jobs[:1])
    assert holdings.leases() == ([lease_id], [])
    holdings.forget(jobs[1:])
    assert holdings.leases() == ([], [lease_id])


def test_a_lease_with_a_job_that_was_lost_is_neither_renewed_nor_dropped() -> None:
    holdings, jobs, lease_id = Holdings(), [a_job(), a_job()], new_id()
    holdings.hold(jobs, 60.0, lease_id)
    holdings.lose(jobs[:1])
    holdings.forget(jobs[1:])
    assert holdings.leases() == ([], [])
    assert not any(holdings.holds(job) for job in jobs)
