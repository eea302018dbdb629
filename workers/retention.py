"""One pass of retention: weeks that are over leave whole, all else that has expired row by row. Any number may run.

Each step is a transaction of its own and leaves the tables whole: a pass that is killed is taken up by the next, here
or elsewhere. Two at once take turns by an advisory lock, and one takes up what the other has left of the work.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from domain.database import database_clock
from domain.idempotency import forget_expired_answers
from domain.jobs import results, retention
from domain.jobs.groups import forget_groups
from domain.jobs.retention import OldWeek
from domain.jobs.unique import forget_expired_keys
from domain.record_retention import (
    DEAD_LETTERS,
    DELIVERIES,
    EVENTS,
    Past,
    Records,
    count_leaving,
    delete_records,
    past_at,
)
from domain.tenants.expired import delete_expired
from domain.webhooks.deletion import deleted_endpoints, end_deleted_endpoint

#: The lock was not to be had in time, or was part of a deadlock: somebody uses the table, and a later pass tries again.
_BUSY = {"55P03", "40P01"}
#: Another pass has dropped the partition between two looks at it: its work is done.
_GONE = "42P01"
BATCH = 1_000


class Retained(msgspec.Struct, rename="camel"):
    """What one pass did. `postponed` could not be locked at once; too much is alive in what was `kept`.

    `expired_deleted`: tokens of people who log in, and failures of those who do not; the log masks a name with "token".
    """

    cutoff: datetime
    dropped: list[str] = []
    rows_dropped: int = 0
    rows_moved: int = 0
    postponed: list[str] = []
    kept: list[str] = []
    strays_deleted: int = 0
    results_forgotten: int = 0
    dead_letters_deleted: int = 0
    events_deleted: int = 0
    deliveries_deleted: int = 0
    expired_deleted: int = 0
    endpoints_deleted: int = 0

    def facts(self) -> dict[str, object]:
        """Its fields, for a log line."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "cutoff"}


class Preview(msgspec.Struct, rename="camel"):
    """What the next pass would do with one partition."""

    partition: str
    rows: int
    staying: int


class Outlook(msgspec.Struct, rename="camel"):
    """What the next pass would do."""

    cutoff: datetime
    partitions: list[Preview]
    strays: int
    results: int
    dead_letters: int
    events: int
    deleted_endpoints: int


def retain(engine: Engine, days: int) -> Retained:
    """Jobs that finished more than `days` days ago have left, and after them what they leave behind.

    Raises what the database raises, but for a busy lock.
    """
    with engine.begin() as tx:
        now = database_clock(tx)
        done = Retained(cutoff=now - timedelta(days=days))
        weeks = retention.old_weeks(tx, done.cutoff)
    for old in weeks:
        _retain_week(engine, old, done)
    while deleted := _delete_strays(engine, done.cutoff):
        done.strays_deleted += deleted
    for hour in results.hours_with_expiring_results(done.cutoff, now):
        done.results_forgotten += _forget(engine, hour, now)
    _retain_records(engine, done)
    while deleted := _delete_expired(engine):
        done.expired_deleted += deleted
    done.endpoints_deleted = _end_deleted_endpoints(engine)
    return done


def foresee(engine: Engine, days: int) -> Outlook:
    """What `retain` would do now, counted."""
    with engine.begin() as tx:
        now = database_clock(tx)
        cutoff = now - timedelta(days=days)
        old_weeks = retention.old_weeks(tx, cutoff)
        held = {old: retention.contents_of(tx, old, cutoff) for old in old_weeks}
        kept = {old.week for old in old_weeks if old.attached and held[old].staying_jobs > retention.MOST_MOVED}
        strays, stale = retention.count_expired_strays(tx, cutoff), results.count_expired_results(tx, now)
        letters, events = count_leaving(tx, past_at(tx, cutoff, {old.week for old in old_weeks} - kept))
        endpoints = len(deleted_endpoints(tx))
    previews = [Preview(old.name, one.rows, one.rows if old.week in kept else one.staying) for old, one in held.items()]
    return Outlook(cutoff, previews, strays, stale, letters, events, endpoints)


def _retain_week(engine: Engine, old: OldWeek, done: Retained) -> None:
    try:
        if _detach(engine, old, done):
            _drop(engine, old, done)
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate in _BUSY:
            done.postponed.append(old.name)
        elif sqlstate != _GONE:
            raise


def _detach(engine: Engine, old: OldWeek, done: Retained) -> bool:
    """Whether the partition is detached, now or before."""
    with engine.begin() as tx:
        if not retention.is_its_turn(tx, old):
            return False
        if not old.attached:
            return True
        staying = retention.jobs_that_stay(tx, old, done.cutoff)
    if staying is None:
        done.kept.append(old.name)
        return False
    with engine.begin() as tx:
        if not _is_mine(tx, old, attached=True):
            return False
        done.rows_moved += retention.detach_and_move(tx, old, staying)
    return True


def _drop(engine: Engine, old: OldWeek, done: Retained) -> None:
    with engine.begin() as tx:
        if _is_mine(tx, old, attached=False):
            done.rows_dropped += retention.move_and_drop(tx, old, done.cutoff)
            done.dropped.append(old.name)


def _is_mine(tx: Connection, old: OldWeek, attached: bool) -> bool:
    """Nobody else retains now, and nobody has done this step since it was planned."""
    is_there = msgspec.structs.replace(old, attached=attached)
    return retention.take_turn(tx) and is_there in retention.old_weeks(tx, old.week + timedelta(weeks=1))


def _delete_strays(engine: Engine, cutoff: datetime) -> int:
    with engine.begin() as tx:
        return retention.delete_expired_strays(tx, cutoff, BATCH)


def _delete_expired(engine: Engine) -> int:
    with engine.begin() as tx:
        return delete_expired(tx, BATCH)


def _end_deleted_endpoints(engine: Engine) -> int:
    """With all that hung on them when their owners deleted them."""
    with engine.begin() as tx:
        deleted = deleted_endpoints(tx)
    for tenant_id, endpoint_id in deleted:
        while not _is_ended(engine, tenant_id, endpoint_id):
            pass
    return len(deleted)


def _is_ended(engine: Engine, tenant_id: UUID, endpoint_id: UUID) -> bool:
    with engine.begin() as tx:
        return end_deleted_endpoint(tx, tenant_id, endpoint_id, BATCH)


def _retain_records(engine: Engine, done: Retained) -> None:
    """What is about jobs leaves after them, events after the dead letters that name them, deliveries after events."""
    with engine.begin() as tx:
        past = past_at(tx, done.cutoff)
    while _forget_control(engine, past):
        pass
    done.dead_letters_deleted = _delete_all(engine, DEAD_LETTERS, past)
    done.events_deleted = _delete_all(engine, EVENTS, past)
    done.deliveries_deleted = _delete_all(engine, DELIVERIES, past)


def _delete_all(engine: Engine, records: Records, past: Past) -> int:
    deleted, last = 0, UUID(int=0)
    while True:
        with engine.begin() as tx:
            step = delete_records(tx, records, past, last, BATCH)
        deleted += step.deleted
        if step.last is None:
            return deleted
        last = step.last


def _forget_control(engine: Engine, past: Past) -> int:
    """Keys whose period is over, answers that are kept no longer, and groups whose waiting job has left."""
    with engine.begin() as tx:
        return forget_expired_keys(tx, BATCH) + forget_expired_answers(tx, BATCH) + forget_groups(tx, past.jobs, BATCH)


def _forget(engine: Engine, hour: results.Hour, now: datetime) -> int:
    forgotten = 0
    while True:
        with engine.begin() as tx:
            batch = results.forget_results(tx, hour, now, BATCH)
        forgotten += batch
        if batch < BATCH:
            return forgotten
