"""A job about to be enqueued: what its kind declares, unless who enqueues it says otherwise."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.database import database_time
from domain.ids import new_id
from domain.jobs.kind import KINDS, JobArgs
from domain.jobs.outbox import NewJob, columns, new_job
from domain.jobs.priority_rules import HIGHEST, LOWEST, checked_priority

TENANT = UUID(int=1)


@pytest.fixture
def kinds() -> Iterator[tuple[type[JobArgs], type[JobArgs]]]:
    """One that declares nothing, and one that is urgent for a minute."""
    before = dict(KINDS)

    class Plain(JobArgs, kind="test.plain"):
        pass

    class Urgent(JobArgs, kind="test.urgent", priority=2, expires=60.0):
        pass

    yield Plain, Urgent
    KINDS.clear()
    KINDS.update(before)


def test_the_priority_is_that_of_the_kind_unless_told_otherwise(kinds: tuple[type[JobArgs], type[JobArgs]]) -> None:
    plain, urgent = kinds
    assert [new_job(args(), tenant_id=TENANT).priority for args in kinds] == [0, 2]
    assert new_job(urgent(), tenant_id=TENANT, priority=0).priority == 0
    assert new_job(plain(), tenant_id=TENANT, priority=-2).priority == -2
    with pytest.raises(ValueError, match="from -2 to 2"):
        new_job(plain(), tenant_id=TENANT, priority=3)


@given(st.integers())
def test_a_priority_is_on_the_scale_or_refused(priority: int) -> None:
    if LOWEST <= priority <= HIGHEST:
        assert checked_priority(priority) == priority
    else:
        with pytest.raises(ValueError, match=str(priority)):
            checked_priority(priority)


def test_of_two_deadlines_the_earlier_counts(kinds: tuple[type[JobArgs], type[JobArgs]]) -> None:
    plain, urgent = kinds
    now = database_time.now()
    sooner, later = now + timedelta(seconds=30), now + timedelta(days=1)
    assert new_job(plain(), tenant_id=TENANT).deadline_at is None
    assert new_job(plain(), tenant_id=TENANT, deadline_at=later).deadline_at == later
    assert new_job(urgent(), tenant_id=TENANT, deadline_at=sooner).deadline_at == sooner
    own = new_job(urgent(), tenant_id=TENANT, deadline_at=later).deadline_at
    assert own is not None
    assert now + timedelta(seconds=60) <= own < later


def test_a_column_that_no_job_uses_goes_empty_and_every_other_is_as_long_as_the_jobs() -> None:
    jobs = [
        NewJob(id=new_id(), tenant_id=TENANT, kind="k", queue="q", args="{}", max_attempts=1, lane=lane)
        for lane in (None, "smtp")
    ]
    told = columns(jobs)
    assert (told["lane"], told["due_at"], told["priority"]) == ([None, "smtp"], [], [0, 0])
    assert columns(jobs[:1])["lane"] == []
