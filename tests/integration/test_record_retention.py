"""Retention of what jobs leave behind: events, deliveries and resolved dead letters leave after the jobs, no sooner."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.database import connect
from domain.event_types import Line, OrderConfirmed, ReportCompleted
from domain.events import Occurrence, publish
from domain.ids import new_id
from domain.invariants import INVARIANTS, violations_of
from domain.jobs import retention
from domain.jobs.dead_letters import discard_if_open, replay_edited_if_open, replay_if_open
from domain.jobs.partitions import create_partitions_ahead, lowest_id_at, monday_of, partition_name
from domain.jobs.retry_policy import Ending, Errored, Succeeded
from domain.record_retention import DEAD_LETTERS, DELIVERIES, EVENTS, Records, delete_records, past_at
from domain.webhooks.endpoints import create_endpoint, get_event
from ops.explain import Case, plan
from tests.integration.builders import (
    SECRET_KEY,
    a_tenant,
    at_once,
    claimed,
    ended,
    execute,
    row,
    rows,
    scalar,
    the_job,
)
from workers.retention import Retained, foresee, retain

DAYS = 30
NOW = datetime.now(UTC)
CUTOFF = NOW - timedelta(days=DAYS)
#: The middle of a week that ended long before the retention of today.
LONG_AGO = monday_of(NOW - timedelta(days=70)) + timedelta(days=3)
WEEK = partition_name("jobs", LONG_AGO)
FAILED = Errored("OSError", "the disk is full")
GIVEN_UP = Errored("PermanentFailure", "no such mailbox", permanent=True)
MAIL, DELIVERY = "email.order_confirmed", "webhook.deliver"


@contextmanager
def ids_of(moment: datetime) -> Iterator[None]:
    """Whatever is published meanwhile has ids of that moment."""

    def old_id() -> UUID:
        return UUID(int=lowest_id_at(moment).int | 0x7 << 76 | 0x2 << 62 | random.getrandbits(62))

    with pytest.MonkeyPatch.context() as patch:
        for module in ("events", "jobs.outbox"):
            patch.setattr(f"domain.{module}.new_id", old_id)
        yield


class Past:
    """Events of the past, and their jobs, brought to each state by the domain itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tenant_id = engine, a_tenant(engine)
        with engine.begin() as tx:
            create_partitions_ahead(tx, LONG_AGO, weeks=0)
            create_endpoint(tx, SECRET_KEY, self.tenant_id, "https://a.example/", ["order.confirmed"], None)

    def event(self, at: datetime = LONG_AGO) -> UUID:
        """A confirmed order, consumed by a mail and by a delivery that wait."""
        confirmed = OrderConfirmed(
            order_id=new_id(), currency="EUR", total=Decimal("19.99"), lines=[Line("LAMP", 1, Decimal("19.99"))]
        )
        with ids_of(at), self.engine.begin() as tx:
            publish(tx, [Occurrence(self.tenant_id, confirmed.order_id, 2, confirmed)])
        return UUID(str(scalar(self.engine, "SELECT id FROM events WHERE subject = :of", of=confirmed.order_id)))

    def unheard_event(self) -> UUID:
        report = ReportCompleted(report_id=new_id(), row_count=0)
        with ids_of(LONG_AGO), self.engine.begin() as tx:
            publish(tx, [Occurrence(self.tenant_id, report.report_id, 1, report)])
        return UUID(str(scalar(self.engine, "SELECT id FROM events WHERE subject = :of", of=report.report_id)))

    def job(self, event_id: UUID, kind: str) -> UUID:
        sql = "SELECT id FROM jobs WHERE event_id = :event AND kind = :kind"
        return UUID(str(scalar(self.engine, sql, event=event_id, kind=kind)))

    def end(self, job_id: UUID, ending: Ending = Succeeded(), at: datetime = LONG_AGO) -> UUID:  # noqa: B008  # frozen
        (job,) = claimed(self.engine, [job_id])
        assert ended(self.engine, job, ending)
        execute(
            self.engine, "UPDATE jobs SET finished_at = :at WHERE id = :id AND state <> 'retrying'", at=at, id=job_id
        )
        return job_id

    def ended_event(self, at: datetime = LONG_AGO) -> UUID:
        event_id = self.event(at)
        for kind in (MAIL, DELIVERY):
            self.end(self.job(event_id, kind), at=at)
        return event_id

    def dead_delivery(self) -> tuple[UUID, UUID]:
        """An event whose mail was sent and whose delivery died long ago, and the dead letter."""
        event_id = self.event()
        self.end(self.job(event_id, MAIL))
        job_id = self.end(self.job(event_id, DELIVERY), GIVEN_UP)
        letter_id = UUID(int=lowest_id_at(LONG_AGO).int | random.getrandbits(62))
        values = {"id": letter_id, "at": LONG_AGO, "job": job_id}
        execute(self.engine, "UPDATE dead_letters SET id = :id, died_at = :at WHERE job_id = :job", **values)
        return event_id, letter_id

    def discarded(self, letter_id: UUID, at: datetime = LONG_AGO) -> None:
        with self.engine.begin() as tx:
            discard_if_open(tx, letter_id, "olga")
        self.resolved_at(letter_id, at)

    def resolved_at(self, letter_id: UUID, at: datetime) -> None:
        execute(self.engine, "UPDATE dead_letters SET resolved_at = :at WHERE id = :id", at=at, id=letter_id)

    def replayed(self, letter_id: UUID) -> UUID:
        with self.engine.begin() as tx:
            return replay_if_open(tx, letter_id, "olga")

    def event_to_deliver(self, job_id: UUID) -> UUID:
        """What the handler finds when it runs this delivery."""
        with self.engine.begin() as tx:
            found = get_event(tx, self.tenant_id, UUID(the_job(self.engine, job_id).args["event_id"]))
        return UUID(str(found.id))


@pytest.fixture
def past(engine: Engine) -> Past:
    return Past(engine)


def events(engine: Engine) -> set[UUID]:
    return {one.id for one in rows(engine, "SELECT id FROM events")}


def told(engine: Engine) -> set[UUID]:
    """The events that have a delivery on record."""
    return {one.event_id for one in rows(engine, "SELECT event_id FROM webhook_deliveries")}


def letters(engine: Engine) -> set[UUID]:
    return {one.id for one in rows(engine, "SELECT id FROM dead_letters")}


def counts(done: Retained) -> tuple[int, int, int]:
    return done.events_deleted, done.deliveries_deleted, done.dead_letters_deleted


def violations(engine: Engine) -> list[str]:
    with engine.begin() as tx:
        return [one.name for one in INVARIANTS if violations_of(tx, one)]


def test_events_leave_with_their_deliveries_once_their_jobs_have_left(engine: Engine, past: Past) -> None:
    past.ended_event()
    past.unheard_event()
    young = past.ended_event(NOW - timedelta(days=1))
    done = retain(engine, DAYS)
    assert counts(done) == (2, 1, 0)
    assert events(engine) == told(engine) == {young}
    assert counts(retain(engine, DAYS)) == (0, 0, 0)
    assert violations(engine) == []


def test_an_event_stays_as_long_as_one_of_its_jobs(engine: Engine, past: Past) -> None:
    event_id, gone = past.event(), past.ended_event()
    past.end(past.job(event_id, MAIL))
    delivery = past.end(past.job(event_id, DELIVERY), FAILED)

    assert counts(retain(engine, DAYS)) == (1, 1, 0)
    assert events(engine) == told(engine) == {event_id}
    assert gone not in events(engine)

    execute(engine, "UPDATE outbox SET due_at = now() - interval '1 second'")
    execute(engine, "UPDATE jobs SET due_at = now() - interval '1 second'")
    past.end(delivery, at=NOW)
    assert counts(retain(engine, DAYS)) == (0, 0, 0)
    execute(engine, "UPDATE jobs SET finished_at = :at WHERE id = :id", at=LONG_AGO, id=delivery)
    assert counts(retain(engine, DAYS)) == (1, 1, 0)


def test_an_event_stays_as_long_as_the_week_of_its_jobs(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_MOVED", 0)
    old, beside = past.ended_event(), past.event()
    assert retain(engine, DAYS).kept == [WEEK]
    assert events(engine) == told(engine) == {old, beside}


def test_an_event_stays_where_the_week_ended_between_it_and_its_job(engine: Engine, past: Past) -> None:
    """The job's week is the oldest one left."""
    event_id, next_week = past.event(), monday_of(LONG_AGO) + timedelta(weeks=1)
    with engine.begin() as tx:
        create_partitions_ahead(tx, next_week, weeks=0)
    execute(engine, f"DROP TABLE {WEEK}")
    ids = {"event": UUID(int=lowest_id_at(next_week).int - 1), "old": event_id}
    execute(engine, "UPDATE events SET id = :event WHERE id = :old", **ids)
    with engine.begin() as tx:
        past_now = past_at(tx, CUTOFF)
        assert past_now.jobs == lowest_id_at(next_week)
        assert delete_records(tx, EVENTS, past_now, UUID(int=0)).deleted == 0
    assert events(engine) == {ids["event"]}


def test_a_week_that_is_detached_and_not_dropped_yet_is_not_past(
    engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is not seen in `jobs`, and may come back."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    event_id = past.ended_event()
    monkeypatch.setattr(retention, "move_and_drop", killed)
    with pytest.raises(KeyboardInterrupt):
        retain(engine, DAYS)
    assert rows(engine, "SELECT FROM jobs") == []
    with engine.begin() as tx:
        assert delete_records(tx, EVENTS, past_at(tx, CUTOFF), UUID(int=0)).deleted == 0
    monkeypatch.undo()
    assert events(engine) == {event_id}
    assert counts(retain(engine, DAYS)) == (1, 1, 0)


class TestReplays:
    def test_an_open_dead_letter_keeps_what_its_replay_needs(self, engine: Engine, past: Past) -> None:
        event_id, letter_id = past.dead_delivery()
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert rows(engine, "SELECT FROM jobs") == []

        copy = past.replayed(letter_id)
        assert past.event_to_deliver(copy) == event_id
        assert row(engine, "SELECT job_id, event_id FROM webhook_deliveries") == (copy, event_id)

    def test_the_event_of_a_replay_stays_however_long_that_takes(self, engine: Engine, past: Past) -> None:
        """The job that stands in is of another week, and may die and be replayed again."""
        event_id, letter_id = past.dead_delivery()
        retain(engine, DAYS)
        copy = past.replayed(letter_id)
        past.resolved_at(letter_id, LONG_AGO)
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert letters(engine) == {letter_id}

        past.end(copy, GIVEN_UP)
        (second,) = letters(engine) - {letter_id}
        execute(engine, "DELETE FROM jobs")
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert past.event_to_deliver(past.replayed(second)) == event_id

    def test_a_revived_job_keeps_its_letter_and_its_event(self, engine: Engine, past: Past) -> None:
        event_id, letter_id = past.dead_delivery()
        job_id = past.replayed(letter_id)
        past.resolved_at(letter_id, LONG_AGO)
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert (events(engine), letters(engine)) == ({event_id}, {letter_id})
        assert [job.id for job in claimed(engine, [job_id])] == [job_id]

    def test_an_edited_replay_keeps_the_letter_too(self, engine: Engine, past: Past) -> None:
        event_id, letter_id = past.dead_delivery()
        args = row(engine, "SELECT snapshot FROM dead_letters").snapshot["args"]
        with engine.begin() as tx:
            replay_edited_if_open(tx, letter_id, args, "olga")
        past.resolved_at(letter_id, LONG_AGO)
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert (events(engine), letters(engine)) == ({event_id}, {letter_id})


class TestDeadLetters:
    def test_a_resolved_one_leaves_after_its_job_and_its_event_with_it(self, engine: Engine, past: Past) -> None:
        _, letter_id = past.dead_delivery()
        past.discarded(letter_id)
        assert counts(retain(engine, DAYS)) == (1, 1, 1)
        assert violations(engine) == []

    def test_one_that_was_resolved_lately_stays(self, engine: Engine, past: Past) -> None:
        event_id, letter_id = past.dead_delivery()
        past.discarded(letter_id, NOW - timedelta(days=DAYS - 1))
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert (events(engine), letters(engine)) == ({event_id}, {letter_id})
        assert counts(retain(engine, DAYS - 2)) == (1, 1, 1)

    def test_one_whose_job_can_still_be_read_stays(self, engine: Engine, past: Past) -> None:
        """A dead job without a dead letter could not be explained."""
        _, letter_id = past.dead_delivery()
        past.discarded(letter_id)
        execute(engine, "UPDATE jobs SET finished_at = :at WHERE state = 'dead'", at=NOW)
        assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert scalar(engine, "SELECT state FROM jobs") == "dead"
        assert violations(engine) == []

    def test_one_that_an_operator_holds_is_left_to_a_later_pass(self, engine: Engine, past: Past) -> None:
        _, letter_id = past.dead_delivery()
        past.discarded(letter_id)
        with engine.begin() as operator:
            operator.exec_driver_sql("SELECT FROM dead_letters FOR UPDATE")
            assert counts(retain(engine, DAYS)) == (0, 0, 0)
        assert counts(retain(engine, DAYS)) == (1, 1, 1)


class TestSteps:
    def test_a_step_looks_at_so_many_and_goes_on_behind_those_that_stay(
        self, engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.retention.BATCH", 2)
        gone = [past.ended_event(LONG_AGO + timedelta(minutes=n)) for n in (0, 1, 5, 6, 7)]
        staying = [past.event(LONG_AGO + timedelta(minutes=n)) for n in (2, 3, 4)]
        done = retain(engine, DAYS)
        assert counts(done) == (len(gone), len(gone), 0)
        assert events(engine) == told(engine) == set(staying)

    def test_no_step_deletes_more_than_it_may(self, engine: Engine, past: Past) -> None:
        for minutes in range(3):
            past.ended_event(LONG_AGO + timedelta(minutes=minutes))
        execute(engine, f"DROP TABLE {WEEK}")
        with engine.begin() as tx:
            past_now, found = past_at(tx, CUTOFF), []
            step = delete_records(tx, EVENTS, past_now, UUID(int=0), limit=2)
            while step.last is not None:
                found.append(step.deleted)
                step = delete_records(tx, EVENTS, past_now, step.last, limit=2)
        assert found == [2, 1]

    @pytest.mark.parametrize("times", [0, 1, 2, 3])
    def test_a_pass_that_is_killed_is_taken_up_by_the_next(
        self, engine: Engine, past: Past, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        past.discarded(past.dead_delivery()[1])
        past.ended_event()
        calls = iter(range(9))

        def killed(*args: Any) -> Any:
            if next(calls) == times:
                raise KeyboardInterrupt
            return delete_records(*args)

        monkeypatch.setattr("workers.retention.delete_records", killed)
        with pytest.raises(KeyboardInterrupt):
            retain(engine, DAYS)
        monkeypatch.undo()
        retain(engine, DAYS)
        assert (events(engine), told(engine), letters(engine)) == (set(), set(), set())

    def test_passes_at_once_delete_each_record_once(
        self, engine: Engine, database_url: str, past: Past, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.retention.BATCH", 2)
        for minutes in range(12):
            past.ended_event(LONG_AGO + timedelta(minutes=minutes))
        execute(engine, f"DROP TABLE {WEEK}")
        engines = [connect(database_url, process="test") for _ in range(3)]
        passes = at_once(*(partial(retain, own, DAYS) for own in engines))
        assert all(isinstance(one, Retained) for one in passes), passes
        last = retain(engine, DAYS)
        done = [one for one in [*passes, last] if isinstance(one, Retained)]
        assert sum(one.events_deleted for one in done) == sum(one.deliveries_deleted for one in done) == 12
        for own in engines:
            own.dispose()

    def test_what_would_leave_can_be_counted_first(self, engine: Engine, past: Past) -> None:
        past.ended_event()
        past.event()
        past.unheard_event()
        past.discarded(past.dead_delivery()[1])
        past.dead_delivery()
        outlook = foresee(engine, DAYS)
        assert (outlook.events, outlook.dead_letters) == (3, 1)
        assert foresee(engine, 365).events == 0
        done = retain(engine, DAYS)
        assert (done.events_deleted, done.dead_letters_deleted) == (3, 1)
        assert (foresee(engine, DAYS).events, foresee(engine, DAYS).dead_letters) == (0, 0)


_MANY = (
    """
    INSERT INTO events (id, tenant_id, type, subject, data, sequence)
    SELECT uuidv7(make_interval(days => -100, secs => n)), :tenant, 'order.confirmed', uuidv7(), '{}', 1
      FROM generate_series(1, 20_000) AS n
    """,
    """
    INSERT INTO webhook_deliveries (job_id, tenant_id, endpoint_id, event_id, endpoint_version)
    SELECT e.id, e.tenant_id, w.id, e.id, 1 FROM events AS e, webhook_endpoints AS w
    """,
    """
    INSERT INTO dead_letters (id, tenant_id, job_id, kind, fingerprint, cause, snapshot, resolution, resolved_at)
    SELECT id, tenant_id, id, 'webhook.deliver', 'f', 'attempts', jsonb_build_object('eventId', id), 'discarded', :at
      FROM events
    """,
    """
    INSERT INTO jobs (id, tenant_id, kind, queue, state, args, max_attempts, event_id)
    SELECT id, tenant_id, 'webhook.deliver', 'webhooks', 'retrying', '{}', 3, id
      FROM events ORDER BY id DESC LIMIT 3_000
    """,
)


@pytest.mark.parametrize("records", [DEAD_LETTERS, EVENTS, DELIVERIES], ids=lambda one: one.table)
def test_a_step_reads_no_table_from_end_to_end(engine: Engine, past: Past, records: Records) -> None:
    """But the default partition, of which events have no index: it holds little."""
    execute(engine, f"DROP TABLE {WEEK}")
    for statement in _MANY:
        given = {"tenant": past.tenant_id, "at": LONG_AGO}
        execute(engine, statement, **{name: value for name, value in given.items() if f":{name}" in statement})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")

    def step(tx: Any, _: UUID) -> object:
        return delete_records(tx, records, past_at(tx, CUTOFF), UUID(int=0))

    lines = plan(engine, Case("a step", step), past.tenant_id)
    scans = [line.strip() for line in lines if "Scan" in line and "CTE" not in line]
    assert any("Index" in line and records.table in line for line in scans), lines
    assert [line for line in scans if "Seq Scan" in line and "jobs_default" not in line] == [], lines
