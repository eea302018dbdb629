"""Schedules against a real database: each tick one job, whoever fires it; late, paused, broken and standing ones."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.database import connect
from domain.errors import DuplicateResource, NotFound, ScheduleInvalid
from domain.invariants import INVARIANTS, violations_of
from domain.jobs.kind import KINDS, JobArgs
from domain.schedules import standing
from domain.schedules.schedule_plan import PlannedSchedule, plan_schedule
from domain.schedules.schedule_rules import CatchUp
from domain.schedules.schedules import (
    Fired,
    add_schedule,
    fire_due,
    get_schedule,
    pause_unless_paused,
    remove_schedule,
    resume,
    run_now,
)
from domain.schedules.standing import RESERVED, STANDING, declare_standing
from tests.integration.builders import (
    a_tenant,
    at_once,
    declarations,
    emptied_database,
    eventually,
    execute,
    module_database,
    row,
    rows,
    scalar,
)

__all__ = ["emptied_database", "module_database"]

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def tally_kind() -> Iterator[None]:
    """A kind that is told its tick."""
    with declarations():

        class Tally(JobArgs, kind="test.tally"):
            shop: str
            tick: datetime

            def __post_init__(self) -> None:
                if error := UNFORESEEN.get(self.shop):
                    raise error

        yield


#: What the check of the payload may raise, by shop.
UNFORESEEN: dict[str, BaseException] = {
    "gone": KeyError("gone"),
    "wordless": AssertionError(),
    "hostile": OSError("no \x00 shop \udce9"),
    "leaving": SystemExit(3),
}


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


def plan(name: str = "tally", cron: str = "* * * * *", catch_up: CatchUp = CatchUp.ALL, **args: str) -> PlannedSchedule:
    given = args or {"shop": "north"}
    return plan_schedule(name=name, kind="test.tally", args=given, cron=cron, time_zone="UTC", catch_up=catch_up)


def added(engine: Engine, tenant_id: UUID, planned: PlannedSchedule, at: datetime = NOON) -> datetime:
    with engine.begin() as tx:
        return add_schedule(tx, planned, tenant_id, at, "olga")


def fire(engine: Engine, now: datetime) -> list[Fired]:
    with engine.begin() as tx:
        return fire_due(tx, now)


def ticks(engine: Engine) -> list[datetime]:
    found = rows(engine, "SELECT args ->> 'tick' FROM jobs WHERE kind = 'test.tally' ORDER BY id")
    return [datetime.fromisoformat(tick) for (tick,) in found]


def schedule(engine: Engine, name: str = "tally") -> Any:
    with engine.begin() as tx:
        return get_schedule(tx, name)


def acts(engine: Engine) -> list[tuple[str, str]]:
    return [(act.actor, act.action) for act in rows(engine, "SELECT actor, action FROM audit_log ORDER BY id")]


def test_a_tick_becomes_a_job_that_knows_its_tick_and_will_be_rung(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    assert first == NOON + MINUTE
    assert fire(engine, first - timedelta(seconds=1)) == []

    (fired,) = fire(engine, first + timedelta(seconds=1))

    job = row(engine, "SELECT * FROM jobs")
    assert [job.id] == fired.job_ids == [row_.job_id for row_ in rows(engine, "SELECT job_id FROM outbox")]
    assert (job.kind, job.tenant_id, job.state, job.args["shop"]) == ("test.tally", tenant_id, "queued", "north")
    assert ticks(engine) == [first]
    kept = schedule(engine)
    assert (kept.next_at, kept.last_job_id) == (first + MINUTE, job.id)


def test_nothing_fires_twice(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    assert len(fire(engine, first)) == 1
    assert fire(engine, first) == []


def test_a_clock_that_is_put_back_fires_nothing_twice(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    fire(engine, first + 10 * MINUTE)
    for back in range(15):
        assert fire(engine, first + (10 - back) * MINUTE) == []
    fire(engine, first + 12 * MINUTE)
    assert ticks(engine) == [first + n * MINUTE for n in range(13)]


@pytest.mark.parametrize(
    ("catch_up", "late"), [(CatchUp.SKIP, []), (CatchUp.LATEST, [5]), (CatchUp.ALL, [0, 1, 2, 3, 4, 5])]
)
def test_a_clock_that_jumps_ahead_leaves_the_missed_ticks_to_the_policy(
    engine: Engine, tenant_id: UUID, catch_up: CatchUp, late: list[int]
) -> None:
    first = added(engine, tenant_id, plan(cron="0 * * * *", catch_up=catch_up))
    fire(engine, first + timedelta(hours=5, minutes=30))
    assert ticks(engine) == [first + timedelta(hours=n) for n in late]
    fire(engine, first + timedelta(hours=6))
    assert ticks(engine)[len(late) :] == [first + timedelta(hours=6)]


def test_a_long_arrears_is_made_up_for_pass_by_pass(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    now = first + 2_500 * MINUTE
    counts = [len(fired.job_ids) for _ in range(4) for fired in fire(engine, now)]
    assert counts == [1_000, 1_000, 501]
    assert ticks(engine) == [first + n * MINUTE for n in range(2_501)]


def test_schedulers_at_once_fire_each_tick_exactly_once(engine: Engine, database_url: str, tenant_id: UUID) -> None:
    names = [f"tally-{n}" for n in range(5)]
    for name in names:
        added(engine, tenant_id, plan(name, shop=name))

    def scheduler() -> None:
        """One with a clock of its own, which is now and then wrong."""
        own, dice = connect(database_url, process="test"), random.Random()
        for turn in range(61):
            now = NOON + turn * MINUTE + timedelta(seconds=dice.randint(-90, 59))
            fire(own, min(now, NOON + 60 * MINUTE))
        while fire(own, NOON + 60 * MINUTE):
            pass
        own.dispose()

    assert at_once(*[scheduler] * 4) == [None] * 4
    found = rows(engine, "SELECT args ->> 'shop', args ->> 'tick' FROM jobs ORDER BY 1, 2")
    fired = [(shop, datetime.fromisoformat(tick)) for shop, tick in found]
    assert sorted(fired) == [(name, NOON + n * MINUTE) for name in names for n in range(1, 61)]
    assert scalar(engine, "SELECT count(*) FROM outbox") == 300


def test_a_scheduler_that_dies_before_its_commit_has_fired_nothing(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    with engine.connect() as connection:
        assert len(fire_due(connection, first)) == 1
        connection.rollback()
    assert ticks(engine) == []
    fire(engine, first)
    assert ticks(engine) == [first]


#: A scheduler whose clock runs a minute per pass.
RUNAWAY = """
import sys
from datetime import datetime, timedelta
from domain.database import connect
from domain.schedules.schedules import fire_due
engine, now = connect(sys.argv[1], process="test"), datetime.fromisoformat(sys.argv[2])
while True:
    with engine.begin() as tx:
        fire_due(tx, now)
    now += timedelta(minutes=1)
"""


def test_schedulers_that_are_killed_leave_no_tick_out_and_fire_none_twice(
    engine: Engine, database_url: str, tenant_id: UUID
) -> None:
    planned = plan_schedule(
        name="checks", kind="invariants.check", args={}, cron="* * * * *", time_zone="UTC", catch_up=CatchUp.ALL
    )
    first = added(engine, tenant_id, planned)
    for round_ in range(1, 3):
        command = [sys.executable, "-c", RUNAWAY, database_url, schedule(engine, "checks").next_at.isoformat()]
        schedulers = [subprocess.Popen(command) for _ in range(2)]
        try:
            eventually(lambda: scalar(engine, "SELECT count(*) FROM jobs") > round_ * 60, within_s=30)  # noqa: B023
        finally:
            for process in schedulers:
                process.kill()
                process.wait()
    last = schedule(engine, "checks").next_at - MINUTE
    assert scalar(engine, "SELECT count(*) FROM jobs") == (last - first) / MINUTE + 1
    assert scalar(engine, "SELECT count(*) FROM outbox") == (last - first) / MINUTE + 1


def test_a_schedule_that_another_holds_is_passed_over(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    with engine.begin() as holder:
        fire_due(holder, first)
        assert fire(engine, first) == []
    assert fire(engine, first) == []
    assert ticks(engine) == [first]


def test_at_midnight_a_pass_fires_some_and_the_next_the_others(engine: Engine, tenant_id: UUID) -> None:
    for n in range(25):
        added(engine, tenant_id, plan(f"tally-{n}", "0 0 * * *"))
    midnight = NOON + timedelta(hours=12)
    assert [len(fire(engine, midnight)) for _ in range(3)] == [20, 5, 0]


def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    for _ in range(2):
        with engine.begin() as tx:
            pause_unless_paused(tx, "tally", first, "olga", "too loud")
    assert fire(engine, first + 5 * MINUTE) == []
    assert schedule(engine).paused_reason == "too loud"
    with engine.begin() as tx:
        assert resume(tx, "tally", first + 5 * MINUTE, "olga") == first + 6 * MINUTE
    fire(engine, first + 6 * MINUTE)
    assert ticks(engine) == [first + 6 * MINUTE]
    assert acts(engine) == [("olga", f"schedule.{act}") for act in ("added", "paused", "resumed")]


def test_run_now_is_one_job_more(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    with engine.begin() as tx:
        job_id = run_now(tx, "tally", NOON, "olga")
    fire(engine, first)
    assert ticks(engine) == [NOON, first]
    assert row(engine, "SELECT detail FROM audit_log WHERE action = 'schedule.run_now'").detail == {
        "jobId": str(job_id)
    }


def test_a_unique_job_that_is_still_under_way_stands_for_the_next_ticks(engine: Engine, tenant_id: UUID) -> None:
    class Count(JobArgs, kind="test.count", unique_by=("shop",)):
        shop: str

    planned = plan_schedule(
        name="count", kind="test.count", args={"shop": "n"}, cron="* * * * *", time_zone="UTC", catch_up=CatchUp.ALL
    )
    first = added(engine, tenant_id, planned)
    (fired,) = fire(engine, first)
    (again,) = fire(engine, first + 5 * MINUTE)
    assert again.job_ids == fired.job_ids == [row(engine, "SELECT id FROM jobs").id]
    with engine.begin() as tx:
        assert run_now(tx, "count", NOON, "olga") == schedule(engine, "count").last_job_id == fired.job_ids[0]


def test_a_removed_schedule_is_gone_and_its_jobs_stay(engine: Engine, tenant_id: UUID) -> None:
    fire(engine, added(engine, tenant_id, plan()))
    with engine.begin() as tx:
        remove_schedule(tx, "tally", "olga")
    with pytest.raises(NotFound), engine.begin() as tx:
        get_schedule(tx, "tally")
    assert len(ticks(engine)) == 1
    assert row(engine, "SELECT detail FROM audit_log WHERE action = 'schedule.removed'").detail["cron"] == "* * * * *"


def test_a_name_is_taken_once(engine: Engine, tenant_id: UUID) -> None:
    added(engine, tenant_id, plan())
    with pytest.raises(DuplicateResource):
        added(engine, tenant_id, plan(shop="south"))
    assert schedule(engine).args == {"shop": "north"}


@pytest.mark.parametrize(
    "change",
    [
        "args = '{}'",
        "time_zone = 'Europe/Atlantis'",
        *(f"""args = '{{"shop": "{shop}"}}'""" for shop in UNFORESEEN),
    ],
)
def test_a_schedule_that_cannot_be_read_any_more_is_paused_with_the_reason(
    engine: Engine, tenant_id: UUID, change: str
) -> None:
    first = added(engine, tenant_id, plan("broken"))
    added(engine, tenant_id, plan("whole"))
    execute(engine, f"UPDATE schedules SET {change} WHERE name = 'broken'")

    fired = {one.name: one for one in fire(engine, first)}

    assert fired["broken"].trouble == schedule(engine, "broken").paused_reason != ""
    assert len(fired["whole"].job_ids) == 1
    assert ("scheduler", "schedule.paused") in acts(engine)
    assert [one.name for one in fire(engine, first + MINUTE)] == ["whole"]


def test_a_kind_that_this_code_does_not_know_is_left_to_the_code_that_does(engine: Engine, tenant_id: UUID) -> None:
    first = added(engine, tenant_id, plan())
    known = KINDS.pop("test.tally")
    assert fire(engine, first) == []
    KINDS["test.tally"] = known
    assert len(fire(engine, first)) == 1


def test_what_nobody_fires_is_noticed(engine: Engine, tenant_id: UUID) -> None:
    kept = next(invariant for invariant in INVARIANTS if invariant.name == "schedules_are_kept")
    added(engine, tenant_id, plan(), at=datetime.now(UTC) - 10 * MINUTE)
    with engine.begin() as tx:
        assert [found.name for found in violations_of(tx, kept)] == ["tally"]
        pause_unless_paused(tx, "tally", NOON, "olga")
        assert violations_of(tx, kept) == []


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ScheduleInvalid) as refused:
        plan_schedule(name="No Name", kind="no.kind", args={}, cron="x * * * *", time_zone="UTC", catch_up=CatchUp.SKIP)
    assert [violation.field for violation in refused.value.violations] == ["name", "kind", "cron"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "missing required field `shop`"),
        ({"shop": 7}, "Expected `str`"),
        ({"shop": "north", "shope": "south"}, "has no shope"),
        ({"shop": "north", "tick": "2026-01-01T00:00:00Z"}, "filled in by the scheduler"),
    ],
)
def test_arguments_have_to_fit_the_kind(args: dict[str, Any], why: str) -> None:
    with pytest.raises(ScheduleInvalid) as refused:
        plan_schedule(name="tally", kind="test.tally", args=args, cron="@daily", time_zone="UTC", catch_up=CatchUp.SKIP)
    (violation,) = refused.value.violations
    assert violation.field == "args"
    assert why in violation.message


class TestStanding:
    def test_they_are_kept_as_declared(self, engine: Engine) -> None:
        for _ in range(2):
            with engine.begin() as tx:
                declare_standing(tx, NOON)
        kept = rows(engine, "SELECT s.name, cron, t.name AS tenant FROM schedules s JOIN tenants t ON t.id = tenant_id")
        assert [tuple(one) for one in kept] == [(one.name, one.calendar.cron, "system") for one in STANDING]

    def test_a_change_moves_the_next_tick_and_keeps_the_pause(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = STANDING[0].name
        with engine.begin() as tx:
            declare_standing(tx, NOON)
            pause_unless_paused(tx, name, NOON, "olga")
            declare_standing(tx, NOON + timedelta(days=9))
        before = schedule(engine, name)
        assert before.next_at < NOON + timedelta(days=1)
        monkeypatch.setattr(standing, "STANDING", (plan(name, "0 5 * * *"),))
        with engine.begin() as tx:
            declare_standing(tx, NOON)
        after = schedule(engine, name)
        assert (after.cron, after.kind, after.next_at.hour) == ("0 5 * * *", "test.tally", 5)
        assert after.paused_at == before.paused_at

    def test_one_that_is_declared_no_more_goes_and_operators_own_stay(
        self, engine: Engine, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with engine.begin() as tx:
            declare_standing(tx, NOON)
        added(engine, tenant_id, plan())
        monkeypatch.setattr(standing, "STANDING", ())
        with engine.begin() as tx:
            declare_standing(tx, NOON)
        assert [name for (name,) in rows(engine, "SELECT name FROM schedules")] == ["tally"]

    def test_their_names_are_theirs(self) -> None:
        assert all(one.name.startswith(RESERVED) for one in STANDING)
