"""The scheduler process, turn by turn: it fires, makes partitions ahead, and outlives what holds it up."""

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from domain.database import connect
from domain.jobs.partitions import partition_name
from domain.schedules.schedule_plan import plan_schedule
from domain.schedules.schedule_rules import CatchUp
from domain.schedules.schedules import add_schedule
from tests.integration.builders import a_tenant, at_once, execute, rows, scalar
from workers.scheduler import Scheduler

MINUTE = timedelta(minutes=1)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


def overdue(engine: Engine, tenant_id: UUID, minutes: int, name: str = "nightly") -> None:
    """A schedule of every minute that nobody has fired for so long."""
    plan = plan_schedule(
        name=name, kind="invariants.check", args={}, cron="* * * * *", time_zone="UTC", catch_up=CatchUp.ALL
    )
    with engine.begin() as tx:
        add_schedule(tx, plan, tenant_id, datetime.now(UTC) - minutes * MINUTE, "olga")


def jobs(engine: Engine) -> int:
    found: int = scalar(engine, "SELECT count(*) FROM jobs")
    return found


def turn(scheduler: Scheduler) -> None:
    """One turn, and the retention that it starts to its end."""
    scheduler.turn()
    if scheduler._retention is not None:
        scheduler._retention.join(30)


def test_a_turn_fires_all_that_is_due(engine: Engine, tenant_id: UUID) -> None:
    for n in range(30):  # more than a pass takes
        overdue(engine, tenant_id, minutes=2, name=f"nightly-{n}")
    with capture_logs() as logs:
        turn(Scheduler(engine, 30))
    assert jobs(engine) >= 60
    told = [log for log in logs if log["event"] == "schedule.fired"]
    assert {log["schedule"] for log in told} == {f"nightly-{n}" for n in range(30)}
    assert sum(log["jobs"] for log in told) == jobs(engine)


def test_two_schedulers_at_once_fire_each_tick_once(engine: Engine, database_url: str, tenant_id: UUID) -> None:
    overdue(engine, tenant_id, minutes=500)
    fired_from = scalar(engine, "SELECT next_at FROM schedules WHERE name = 'nightly'")
    others = [connect(database_url, process="test") for _ in range(3)]
    assert at_once(*(partial(turn, Scheduler(other, 30)) for other in others)) == [None] * 3
    fired_until = scalar(engine, "SELECT next_at FROM schedules WHERE name = 'nightly'")
    assert jobs(engine) == (fired_until - fired_from) / MINUTE
    for other in others:
        other.dispose()


def test_a_partition_that_cannot_be_made_now_delays_no_tick(
    engine: Engine, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr("domain.database.LOCK_TIMEOUT_MS", 50)
    own = connect(database_url, process="test")
    ahead = partition_name("jobs", datetime.now(UTC) + timedelta(weeks=2))
    execute(engine, f"DROP TABLE {ahead}")
    overdue(engine, tenant_id, minutes=2)
    scheduler = Scheduler(own, 3_650)
    with engine.begin() as reader:
        reader.exec_driver_sql("LOCK TABLE jobs_default IN ACCESS SHARE MODE")
        with capture_logs() as logs:
            turn(scheduler)
        assert "scheduler.database_unreachable" in [log["event"] for log in logs]
        assert jobs(engine) >= 2
    scheduler._partitions_at = 0.0
    turn(scheduler)
    assert rows(engine, "SELECT to_regclass(:name)", name=ahead)[0][0] == ahead
    own.dispose()


def test_an_outage_is_waited_out(engine: Engine, tenant_id: UUID) -> None:
    overdue(engine, tenant_id, minutes=2)
    away = connect("postgresql://nobody@127.0.0.1:1/nowhere", process="test")
    with capture_logs() as logs:
        turn(Scheduler(away, 30))
    assert [log["event"] for log in logs] == ["scheduler.database_unreachable"]
    turn(Scheduler(engine, 30))
    assert jobs(engine) >= 2
