"""Retention against a real database: whole weeks leave, what is alive or young stays readable under its id."""

import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine, text

from domain.database import connect
from domain.ids import new_id
from domain.invariants import INVARIANTS, violations_of
from domain.job_kinds import MailOrderConfirmed
from domain.jobs import retention
from domain.jobs.dead_letters import replay_if_open
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.partitions import create_partitions_ahead, lowest_id_at, monday_of, partition_name
from domain.jobs.retry_policy import Errored, Succeeded
from ops.telemetry import redact
from tests.integration.builders import (
    a_tenant,
    at_once,
    claimed,
    declarations,
    ended,
    eventually,
    execute,
    is_obliged,
    row,
    rows,
    scalar,
    the_job,
)
from workers.retention import BATCH, Retained, foresee, retain
from workers.scheduler import Scheduler

DAYS = 30
NOW = datetime.now(UTC)
#: The middle of a week that ended long before the retention of today, and one that has not.
LONG_AGO = monday_of(NOW - timedelta(days=70)) + timedelta(days=3)
LATELY = monday_of(NOW - timedelta(days=10)) + timedelta(days=3)
WEEK = [partition_name(table, LONG_AGO) for table in ("jobs", "attempts")]
FAILED = Errored("OSError", "the disk is full")
GIVEN_UP = Errored("PermanentFailure", "no such mailbox", permanent=True)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    with engine.begin() as tx:
        for week in (LONG_AGO, LATELY):
            create_partitions_ahead(tx, week, weeks=0)
    return a_tenant(engine)


class Past:
    """Jobs made in the past and brought to each state by the domain itself."""

    def __init__(self, engine: Engine, tenant_id: UUID) -> None:
        self.engine, self.tenant_id = engine, tenant_id

    def waiting(
        self, made_at: datetime = LONG_AGO, due_in: timedelta = timedelta(0), args: JobArgs | None = None
    ) -> UUID:
        job = new_job(args or MailOrderConfirmed(new_id()), tenant_id=self.tenant_id, due_at=datetime.now(UTC) + due_in)
        made = UUID(int=lowest_id_at(made_at).int | 0x7 << 76 | 0x2 << 62 | random.getrandbits(62))
        with self.engine.begin() as tx:
            enqueue(tx, [msgspec.structs.replace(job, id=made)])
        return made

    def running(self, made_at: datetime = LONG_AGO, args: JobArgs | None = None) -> Any:
        (job,) = claimed(self.engine, [self.waiting(made_at, args=args)])
        return job

    def finished(
        self,
        ending: Any = Succeeded(),  # noqa: B008  # a frozen value
        made_at: datetime = LONG_AGO,
        after: timedelta = timedelta(minutes=1),
        args: JobArgs | None = None,
    ) -> UUID:
        """A job that ended so long after it was made."""
        job = self.running(made_at, args)
        assert ended(self.engine, job, ending)
        execute(self.engine, "UPDATE jobs SET finished_at = :at WHERE id = :id", at=made_at + after, id=job.id)
        return UUID(str(job.id))

    def retrying(self) -> UUID:
        job = self.running()
        assert ended(self.engine, job, FAILED)
        return UUID(str(job.id))


@pytest.fixture
def past(engine: Engine, tenant_id: UUID) -> Past:
    return Past(engine, tenant_id)


def partitions(engine: Engine) -> set[str]:
    return {name for (name,) in rows(engine, "SELECT relname FROM pg_class WHERE relname ~ '^(jobs|attempts)_.*w..$'")}


def is_there(engine: Engine, job_id: UUID) -> bool:
    return bool(rows(engine, "SELECT FROM jobs WHERE id = :id", id=job_id))


def violations(engine: Engine) -> dict[str, int]:
    with engine.begin() as tx:
        found = {one.name: len(violations_of(tx, one)) for one in INVARIANTS}
    return {name: count for name, count in found.items() if count}


def test_a_week_of_finished_jobs_leaves_with_its_attempts(engine: Engine, past: Past) -> None:
    gone = [past.finished(), past.finished(GIVEN_UP)]
    young = past.finished(made_at=LATELY)

    done = retain(engine, DAYS)

    assert done.dropped == WEEK
    assert done.postponed == []
    assert partitions(engine).isdisjoint(WEEK)
    assert [is_there(engine, job_id) for job_id in [*gone, young]] == [False, False, True]
    assert rows(engine, "SELECT FROM attempts WHERE job_id = ANY(:ids)", ids=gone) == []
    assert violations(engine) == {}


def test_what_is_alive_stays_as_it_is_under_its_id(engine: Engine, past: Past) -> None:
    gone = past.finished()
    alive = [past.waiting(), past.waiting(due_in=timedelta(days=9)), past.retrying(), past.running().id]
    before = [the_job(engine, job_id) for job_id in alive]
    attempts = rows(engine, "SELECT * FROM attempts WHERE job_id <> :gone ORDER BY job_id, claim", gone=gone)
    assert attempts

    done = retain(engine, DAYS)

    assert done.dropped == WEEK
    assert [the_job(engine, job_id) for job_id in alive] == before
    assert rows(engine, "SELECT * FROM attempts ORDER BY job_id, claim") == attempts
    assert {job.state for job in before} == {"queued", "scheduled", "retrying", "running"}
    assert not is_there(engine, gone)
    assert [is_obliged(engine, job_id) for job_id in alive] == [True, True, True, False]
    assert violations(engine) == {}


def test_what_moved_goes_on_to_its_end(engine: Engine, past: Past) -> None:
    waiting, running = past.waiting(), past.running()
    retain(engine, DAYS)
    (job,) = claimed(engine, [waiting])
    assert ended(engine, job, Succeeded({"sent": True}))
    assert ended(engine, running, FAILED)
    assert the_job(engine, waiting).result == {"sent": True}
    assert the_job(engine, running.id).state == "retrying"
    assert violations(engine) == {}


def test_what_finished_lately_can_be_read_as_long_as_any_other(engine: Engine, past: Past) -> None:
    late = past.finished(after=NOW - LONG_AGO - timedelta(days=DAYS - 1))
    assert retain(engine, DAYS).dropped == WEEK
    assert is_there(engine, late)
    assert retain(engine, DAYS).strays_deleted == 0

    done = retain(engine, DAYS - 2)

    assert done.strays_deleted == 1
    assert not is_there(engine, late)
    assert rows(engine, "SELECT FROM attempts") == []


def test_a_week_that_is_not_over_for_so_long_stays(engine: Engine, past: Past) -> None:
    """Its last day is younger than the retention, even if its first is not."""
    young = past.finished(made_at=LATELY)
    just_within = (NOW - (monday_of(LATELY) + timedelta(weeks=1))).days + 1
    assert retain(engine, just_within).dropped == WEEK
    assert is_there(engine, young)
    assert len(retain(engine, max(just_within - 2, 1)).dropped) == 2
    assert not is_there(engine, young)


def test_a_dead_letter_outlives_its_job_and_can_be_replayed(engine: Engine, past: Past) -> None:
    dead = past.finished(GIVEN_UP)
    retain(engine, DAYS)
    letter = row(engine, "SELECT id, job_id FROM dead_letters")
    assert letter.job_id == dead
    with engine.begin() as tx:
        replacement = replay_if_open(tx, letter.id, "olga")
    assert replacement != dead
    assert is_obliged(engine, replacement)
    assert violations(engine) == {}


def test_expired_strays_leave_the_default_partition_in_batches(engine: Engine, past: Past) -> None:
    """They came when there was no partition for them."""
    long_before = LONG_AGO - timedelta(weeks=20)
    stray = past.finished(made_at=long_before)
    execute(
        engine,
        """
        INSERT INTO jobs (id, tenant_id, kind, queue, state, args, max_attempts, finished_at)
        SELECT uuidv7(interval '-300 days'), tenant_id, kind, queue, state, args, max_attempts, finished_at
          FROM jobs, generate_series(1, :many)
        """,
        many=2 * BATCH,
    )
    alive = past.waiting(long_before)
    assert retain(engine, DAYS).strays_deleted == 2 * BATCH + 1
    assert not is_there(engine, stray)
    assert is_there(engine, alive)


def test_a_week_with_too_much_that_is_alive_stays_whole(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_MOVED", 2)
    ids = [past.waiting() for _ in range(3)]
    done = retain(engine, DAYS)
    assert (done.dropped, done.postponed, done.kept) == ([], [], WEEK[:1])
    assert partitions(engine) >= set(WEEK)
    for job in claimed(engine, ids[:1]):
        assert ended(engine, job, Succeeded())
        execute(engine, "UPDATE jobs SET finished_at = :at WHERE id = :id", at=LONG_AGO, id=job.id)
    assert retain(engine, DAYS).dropped == WEEK


def test_a_long_reader_is_not_disturbed_and_holds_up_nobody(engine: Engine, past: Past) -> None:
    gone = past.finished()
    with engine.begin() as reader:
        reader.execute(text("SELECT count(*) FROM jobs"))
        done = retain(engine, DAYS)
        assert (done.dropped, done.postponed, done.kept) == ([], WEEK[:1], [])
        assert claimed(engine, [past.waiting(NOW)])  # what queued behind the detach goes on
    assert is_there(engine, gone)
    assert retain(engine, DAYS).dropped == WEEK


def test_two_at_once_drop_each_week_once(engine: Engine, database_url: str, past: Past) -> None:
    for weeks in range(1, 5):
        with engine.begin() as tx:
            create_partitions_ahead(tx, LONG_AGO - timedelta(weeks=weeks), weeks=0)
        past.finished(made_at=LONG_AGO - timedelta(weeks=weeks))
    alive = [past.waiting(LONG_AGO - timedelta(weeks=weeks)) for weeks in range(5)]
    engines = [connect(database_url, process="test") for _ in range(3)]

    passes = at_once(*(partial(retain, own, DAYS) for own in engines))

    assert all(isinstance(one, Retained) for one in passes), passes
    last = retain(engine, DAYS)
    dropped = [name for one in [*passes, last] if isinstance(one, Retained) for name in one.dropped]
    assert len(dropped) == len(set(dropped)) == 10
    assert [is_there(engine, job_id) for job_id in alive] == [True] * 5
    assert scalar(engine, "SELECT count(*) FROM jobs") == 5
    for own in engines:
        own.dispose()


@pytest.mark.parametrize("step", ["jobs_that_stay", "detach_and_move", "move_and_drop"])
@pytest.mark.parametrize("times", [0, 1])
def test_a_pass_that_is_killed_at_any_step_is_taken_up_by_the_next(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch, step: str, times: int
) -> None:
    gone, dead, alive = past.finished(), past.finished(GIVEN_UP), past.retrying()
    real, calls = getattr(retention, step), iter(range(9))

    def killed(*args: Any) -> Any:
        if next(calls) == times:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(retention, step, killed)
    with pytest.raises(KeyboardInterrupt):
        retain(engine, DAYS)
    monkeypatch.undo()
    assert is_there(engine, alive)

    retain(engine, DAYS)

    assert partitions(engine).isdisjoint(WEEK)
    assert [is_there(engine, job_id) for job_id in (gone, dead, alive)] == [False, False, True]
    assert {one.job_id for one in rows(engine, "SELECT job_id FROM attempts")} == {alive}
    assert violations(engine) == {}


def test_a_job_that_is_revived_while_its_week_is_detached_stays(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of what stays and the detach."""
    dead = past.finished(GIVEN_UP)
    letter = scalar(engine, "SELECT id FROM dead_letters")
    real = retention.jobs_that_stay

    def then_revived(tx: Any, *args: Any) -> Any:
        found = real(tx, *args)
        with engine.begin() as other:
            if not rows(engine, "SELECT FROM dead_letters WHERE resolution IS NOT NULL"):
                assert replay_if_open(other, letter, "olga") == dead
        return found

    monkeypatch.setattr(retention, "jobs_that_stay", then_revived)
    assert retain(engine, DAYS).dropped == WEEK
    assert the_job(engine, dead).state == "queued"
    assert is_obliged(engine, dead)
    assert len(rows(engine, "SELECT FROM attempts WHERE job_id = :id", id=dead)) == 1
    assert violations(engine) == {}


def test_work_goes_on_while_weeks_are_dropped(engine: Engine, database_url: str, past: Past) -> None:
    for weeks in range(1, 9):
        with engine.begin() as tx:
            create_partitions_ahead(tx, LONG_AGO - timedelta(weeks=weeks), weeks=0)
        past.finished(made_at=LONG_AGO - timedelta(weeks=weeks))
    old = [past.waiting(LONG_AGO - timedelta(weeks=weeks)) for weeks in range(1, 9)]
    stop, worked, own = threading.Event(), [], connect(database_url, process="test")

    def work() -> None:
        other = Past(own, past.tenant_id)
        while not stop.is_set():
            (job,) = claimed(own, [old.pop() if old else other.waiting(NOW)])
            if ended(own, job, Succeeded()):
                worked.append(job.id)

    def drop() -> None:
        try:
            eventually(lambda: len(worked) > 2)
            while retain(engine, DAYS).postponed:
                pass
        finally:
            stop.set()

    assert at_once(work, drop) == [None, None]
    own.dispose()
    states = {one.id: one.state for one in rows(engine, "SELECT id, state FROM jobs")}
    assert all(states.get(job_id) == "succeeded" for job_id in worked)
    assert not any(name < "jobs_" + f"{LATELY:%Gw%V}" for name in partitions(engine) if name.startswith("jobs_"))


def test_what_would_leave_can_be_counted_first(engine: Engine, past: Past) -> None:
    past.finished()
    past.finished(GIVEN_UP)
    past.retrying()
    past.finished(made_at=LONG_AGO - timedelta(weeks=20))
    attempts = scalar(engine, f"SELECT count(*) FROM {WEEK[1]}")
    outlook = foresee(engine, DAYS)
    found = {one.partition: (one.rows, one.staying) for one in outlook.partitions}
    assert found == {WEEK[0]: (3, 1), WEEK[1]: (attempts, 1)}
    assert (outlook.strays, outlook.results) == (1, 0)
    assert partitions(engine) >= set(WEEK)
    done = retain(engine, DAYS)
    assert (done.rows_dropped, done.rows_moved, done.strays_deleted) == (attempts + 3 - 2, 2, 1)


def test_a_week_that_would_be_kept_is_not_counted_among_what_leaves(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_MOVED", 1)
    past.finished()
    past.retrying()
    past.retrying()
    found = {one.partition: one.rows - one.staying for one in foresee(engine, DAYS).partitions}
    assert found == dict.fromkeys(WEEK, 0)
    done = retain(engine, DAYS)
    assert (done.rows_dropped, done.rows_moved) == (0, 0)


def test_what_it_says_in_the_log_is_masked_nowhere() -> None:
    facts = Retained(cutoff=NOW).facts()
    assert redact(None, "info", dict(facts)) == facts


def test_the_scheduler_retains(engine: Engine, past: Past) -> None:
    gone = past.finished()
    scheduler = Scheduler(engine, DAYS)
    scheduler.turn()
    assert scheduler._retention is not None
    scheduler._retention.join(30)
    assert not is_there(engine, gone)
    assert partitions(engine).isdisjoint(WEEK)


class TestResults:
    @pytest.fixture(autouse=True)
    def kind(self) -> Iterator[None]:
        with declarations():

            class Quote(JobArgs, kind="test.quote", result_ttl=3_600.0):
                pass

            self.quote = Quote
            yield

    def test_expired_ones_leave_their_rows_and_the_others_stay(self, engine: Engine, past: Past) -> None:
        result = Succeeded({"price": 7})
        hour = timedelta(hours=1)
        expired = [past.finished(result, made_at=NOW - 3 * hour, args=self.quote()) for _ in range(3)]
        long_expired = past.finished(result, made_at=LONG_AGO, after=NOW - LONG_AGO - 2 * hour, args=self.quote())
        fresh = past.finished(result, made_at=NOW - hour / 2, args=self.quote())
        other = past.finished(result, made_at=NOW - 3 * hour)
        assert foresee(engine, DAYS).results == 4

        assert retain(engine, DAYS).results_forgotten == 4

        left = {one.id for one in rows(engine, "SELECT id FROM jobs WHERE result IS NOT NULL")}
        assert left == {fresh, other}
        assert all(the_job(engine, job_id).state == "succeeded" for job_id in [*expired, long_expired])
        assert foresee(engine, DAYS).results == 0

    def test_forgetting_is_done_in_batches(self, engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workers.retention.BATCH", 2)
        for _ in range(5):
            past.finished(Succeeded({"price": 7}), made_at=NOW - timedelta(hours=3), args=self.quote())
        assert retain(engine, DAYS).results_forgotten == 5

    def test_no_update_of_a_result_touches_an_index(self, engine: Engine) -> None:
        """One that names `result` would end the HOT updates of jobs."""
        indexes = rows(engine, "SELECT indexdef FROM pg_indexes WHERE tablename = 'jobs'")
        assert [one for (one,) in indexes if "result" in one or "finished_at" in one] == []
