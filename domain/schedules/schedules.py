"""Schedules: jobs that the calendar asks for. Each tick becomes one job, however many schedulers run.

A schedule carries `next_at`, its first tick that nobody has fired. Whoever fires it holds the row, and moves `next_at`
on in the transaction that enqueues the job: a tick is fired in the commit that says so, or not at all. A clock that is
put back fires nothing twice, because `next_at` stays; one that jumps ahead leaves missed ticks to the catch-up policy.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

import domain.job_kinds  # noqa: F401  # declares the kinds
from domain.audit import record_act
from domain.errors import DuplicateResource, NotFound, ScheduleInvalid, Violation
from domain.jobs.kind import KINDS, UnknownJobKind, find_kind
from domain.jobs.outbox import NewJob, enqueue, new_job
from domain.schedules.schedule_plan import PlannedSchedule, args_at
from domain.schedules.schedule_rules import Calendar, CatchUp, UnreadableCalendar, firing_of, read_calendar
from domain.tables.schedules import schedules
from domain.tables.tenants import tenants
from domain.text_rules import said_by, storable

#: How many schedules one pass fires: a transaction stays short at midnight, when all of them are due.
PER_PASS = 20


class Fired(msgspec.Struct, frozen=True):
    """What a pass did for one schedule. No jobs and no trouble: its ticks were too old to run."""

    name: str
    job_ids: list[UUID]
    trouble: str | None = None


# Only kinds that this code knows: while a new version rolls out, an old scheduler leaves the new kinds to the new one.
_DUE = text(
    """
    SELECT * FROM schedules
     WHERE paused_at IS NULL AND next_at <= :now AND kind = ANY(CAST(:kinds AS text[]))
     ORDER BY next_at LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)


def fire_due(tx: Connection, now: datetime, limit: int = PER_PASS) -> list[Fired]:
    """Up to `limit` schedules that are due at `now` have their jobs, and are due next in the future. [] = none was due.

    Rows that another scheduler holds are skipped. A schedule whose arguments or time zone this code cannot read is
    paused with the reason instead, so that it is seen and delays no other.
    """
    due = tx.execute(_DUE, {"now": now, "kinds": list(KINDS), "limit": limit}).all()
    return [_fire(tx, row, now) for row in due]


def _fire(tx: Connection, row: Row[Any], now: datetime) -> Fired:
    try:
        firing = firing_of(calendar_of(row), CatchUp(row.catch_up), row.next_at, now)
        jobs = [_job_of(row, tick) for tick in firing.ticks]
    except ScheduleInvalid as error:
        why = error.violations[0].message
        _change(tx, row.name, paused_at=now, paused_reason=why)
        record_act(tx, row.tenant_id, "scheduler", "schedule.paused", row.name, why)
        return Fired(row.name, [], why)
    ids = _enqueue(tx, jobs)
    last = {"last_fired_at": now, "last_job_id": ids[-1]} if ids else {}
    _change(tx, row.name, next_at=firing.next_at, **last)
    return Fired(row.name, ids)


def _enqueue(tx: Connection, jobs: Sequence[NewJob]) -> list[UUID]:
    """Who does the jobs: each itself, or for the twin of a unique job the one that is under way already."""
    twins = enqueue(tx, jobs)
    return list(dict.fromkeys(twins.get(job.id, job.id) for job in jobs))


def calendar_of(row: Row[Any]) -> Calendar:
    """The calendar of a schedule. Raises ScheduleInvalid when this machine cannot read it."""
    try:
        return read_calendar(row.cron, row.time_zone)
    except UnreadableCalendar as error:
        raise ScheduleInvalid(violations=[Violation(error.field, str(error))]) from error


def _job_of(row: Row[Any], tick: datetime) -> NewJob:
    try:
        return new_job(args_at(find_kind(row.kind), row.args, tick), tenant_id=row.tenant_id)
    except UnknownJobKind as error:
        raise ScheduleInvalid(violations=[Violation("kind", f"this version knows no kind {row.kind}")]) from error
    except (Exception, SystemExit) as error:  # a payload's own check may raise what it likes: this schedule's fault
        why = storable(said_by(error)) or type(error).__name__
        raise ScheduleInvalid(violations=[Violation("args", why)]) from error


def _change(tx: Connection, name: str, **values: object) -> None:
    tx.execute(update(schedules).where(schedules.c.name == name).values(**values))


_WITH_TENANT = select(schedules, tenants.c.name.label("tenant")).join(tenants, tenants.c.id == schedules.c.tenant_id)


def list_schedules(tx: Connection) -> Sequence[Row[Any]]:
    """Every schedule with its tenant's name, by name."""
    return tx.execute(_WITH_TENANT.order_by(schedules.c.name)).all()


def get_schedule(tx: Connection, name: str) -> Row[Any]:
    """One schedule with its tenant's name. Raises NotFound."""
    found = tx.execute(_WITH_TENANT.where(schedules.c.name == name)).first()
    if found is None:
        raise NotFound(resource=f"Schedule {name}")
    return found


def add_schedule(tx: Connection, plan: PlannedSchedule, tenant_id: UUID, now: datetime, by: str) -> datetime:
    """The schedule runs from now on. Answers its first tick. Raises DuplicateResource."""
    next_at = plan.calendar.next_after(now)
    row = insert(schedules).values(**plan.row(), tenant_id=tenant_id, next_at=next_at)
    if tx.execute(row.on_conflict_do_nothing().returning(schedules.c.name)).first() is None:
        raise DuplicateResource(resource="Schedule", key=plan.name)
    record_act(tx, tenant_id, by, "schedule.added", plan.name, None, _detail(plan.row()))
    return next_at


def pause_unless_paused(tx: Connection, name: str, now: datetime, by: str, reason: str | None = None) -> None:
    """The schedule fires no more until it is resumed. Pausing twice keeps the first time. Raises NotFound."""
    row = _lock(tx, name)
    if row.paused_at is None:
        _change(tx, name, paused_at=now, paused_reason=reason)
        record_act(tx, row.tenant_id, by, "schedule.paused", name, reason)


def resume(tx: Connection, name: str, now: datetime, by: str, reason: str | None = None) -> datetime:
    """The schedule fires from its next tick after `now`; what passed meanwhile was not missed, but paused.

    Resuming one that runs puts `next_at` right after a clock was wrong. Answers `next_at`. Raises NotFound, or
    ScheduleInvalid.
    """
    row = _lock(tx, name)
    next_at = calendar_of(row).next_after(now)
    _change(tx, name, paused_at=None, paused_reason=None, next_at=next_at)
    record_act(tx, row.tenant_id, by, "schedule.resumed", name, reason)
    return next_at


def remove_schedule(tx: Connection, name: str, by: str, reason: str | None = None) -> None:
    """The schedule is gone; the jobs it made stay. Raises NotFound."""
    row = _lock(tx, name)
    tx.execute(delete(schedules).where(schedules.c.name == name))
    record_act(tx, row.tenant_id, by, "schedule.removed", name, reason, _detail(dict(row._mapping)))


def run_now(tx: Connection, name: str, now: datetime, by: str, reason: str | None = None) -> UUID:
    """One job more, with `now` for its tick; paused or not, the schedule's ticks stay as they are. Answers its id, or
    that of its twin, where the kind is unique. Raises NotFound, or ScheduleInvalid.
    """
    row = _lock(tx, name)
    (job_id,) = _enqueue(tx, [_job_of(row, now)])
    _change(tx, name, last_fired_at=now, last_job_id=job_id)
    record_act(tx, row.tenant_id, by, "schedule.run_now", name, reason, {"jobId": str(job_id)})
    return job_id


def _lock(tx: Connection, name: str) -> Row[Any]:
    row = tx.execute(select(schedules).where(schedules.c.name == name).with_for_update()).first()
    if row is None:
        raise NotFound(resource=f"Schedule {name}")
    return row


def _detail(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("kind", "args", "cron", "time_zone", "catch_up")}
