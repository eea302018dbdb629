"""Whoever changes a job that waits: goes by its outbox row, finds it although it has none, and refuses all others."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from domain.errors import InvalidState, NotFound
from domain.ids import new_id
from domain.job_kinds import ReserveInventory
from domain.jobs.cancellation import cancel_unless_finished
from domain.jobs.priority import reprioritise_if_waiting
from domain.jobs.retry_now import make_due_now_if_waiting
from domain.jobs.retry_policy import Succeeded
from tests.integration.builders import a_tenant, ended, enqueued, eventually, execute, running, scalar, the_job

Act = Callable[[Connection, UUID, UUID], object]

ACTS: dict[str, Act] = {
    "cancel": cancel_unless_finished,
    "reprioritise": lambda tx, _, job_id: reprioritise_if_waiting(tx, job_id, 2, by="olga"),
    "retry now": lambda tx, _, job_id: make_due_now_if_waiting(tx, job_id, by="olga"),
}
WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture(params=ACTS)
def act(request: pytest.FixtureRequest) -> Act:
    return ACTS[request.param]


def reservation() -> ReserveInventory:
    return ReserveInventory(new_id())


def done(engine: Engine, act: Act, tenant_id: UUID, job_id: UUID) -> None:
    with engine.begin() as tx:
        act(tx, tenant_id, job_id)


def test_the_outbox_row_is_locked_before_the_job(engine: Engine, tenant_id: UUID, act: Act) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation(), due_in_s=60)
    before = the_job(engine, job_id).version
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as holder:
            holder.execute(text("SELECT FROM outbox WHERE job_id = :id FOR UPDATE"), {"id": job_id})
            acting = threads.submit(done, engine, act, tenant_id, job_id)
            eventually(lambda: scalar(engine, WAITS_FOR_A_LOCK))
            holder.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE NOWAIT"), {"id": job_id})
        acting.result(15)
    assert the_job(engine, job_id).version == before + 1


def test_a_job_that_has_lost_its_row_is_not_out_of_reach(engine: Engine, tenant_id: UUID, act: Act) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation())
    before = the_job(engine, job_id).version
    execute(engine, "DELETE FROM outbox")
    done(engine, act, tenant_id, job_id)
    assert the_job(engine, job_id).version == before + 1


def test_a_job_that_has_ended_or_never_was_is_refused(engine: Engine, tenant_id: UUID, act: Act) -> None:
    job = running(engine, tenant_id, reservation())
    ended(engine, job, Succeeded())
    with pytest.raises(InvalidState):
        done(engine, act, tenant_id, job.id)
    with pytest.raises(NotFound):
        done(engine, act, tenant_id, new_id())


def test_a_running_job_can_be_asked_to_stop_and_nothing_else(engine: Engine, tenant_id: UUID) -> None:
    job = running(engine, tenant_id, reservation())
    for name in ("reprioritise", "retry now"):
        with pytest.raises(InvalidState, match="running"):
            done(engine, ACTS[name], tenant_id, job.id)
    with engine.begin() as tx:
        assert cancel_unless_finished(tx, tenant_id, job.id) is None
    assert the_job(engine, job.id).cancel_requested_at is not None


def test_the_job_of_another_tenant_cannot_be_cancelled(engine: Engine, tenant_id: UUID) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation())
    with pytest.raises(NotFound):
        done(engine, cancel_unless_finished, a_tenant(engine, "other"), job_id)
    assert the_job(engine, job_id).state == "queued"
