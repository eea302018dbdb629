"""The outbox: one row per obligation to start a job at or after `due_at`. It lives until a worker has claimed the job.

Everything that shall run goes through here: first run, retry, schedule, rescue, replay. Only the relay rings.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.database import database_time
from domain.ids import new_id
from domain.jobs.attempts import uuid_array
from domain.jobs.kind import JobArgs, kind_of
from domain.jobs.priority_rules import DEFAULT, checked_priority
from domain.jobs.unique import LONGEST_KEY, UniqueKey, take_keys
from domain.stored_json import stored_json


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job about to be enqueued. `due_at` None = now. `args` is its payload as JSON text.

    Past `deadline_at` it does not start any more. A `unique_key` is held for `unique_for_s`, None = until the job ends.
    """

    id: UUID
    tenant_id: UUID
    kind: str
    queue: str
    args: str
    max_attempts: int
    priority: int = DEFAULT
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    order_id: UUID | None = None
    event_id: UUID | None = None
    parent_id: UUID | None = None
    lane: str | None = None
    trace_context: str | None = None
    unique_key: str | None = None
    unique_for_s: float | None = None


def new_job(  # noqa: PLR0913  # keywords, each a column
    args: JobArgs,
    *,
    tenant_id: UUID,
    max_attempts: int | None = None,
    priority: int | None = None,
    due_at: datetime | None = None,
    deadline_at: datetime | None = None,
    order_id: UUID | None = None,
    event_id: UUID | None = None,
    lane: str | None = None,
    trace_context: str | None = None,
    unique_key: str | None = None,
    unique_for: timedelta | None = None,
) -> NewJob:
    """A job of the kind of `args`, with what the kind declares (queue, lane, attempts, ...) unless told otherwise.

    Of a given deadline and that of the kind, the earlier counts. Raises ValueError for a priority off the scale, a key
    that is too long, and a period without a key; TooLarge for the payload.
    """
    kind = kind_of(args)
    key = kind.unique_key_of(args) if unique_key is None else unique_key
    unique_for_s = kind.unique_for_s if unique_for is None and key is not None else _seconds(unique_for)
    if key is not None or unique_for_s is not None:
        _check_key(key, unique_for_s)
    return NewJob(
        id=new_id(),
        tenant_id=tenant_id,
        kind=kind.name,
        queue=kind.queue,
        args=stored_json(msgspec.json.encode(args), f"the payload of {kind.name}"),
        max_attempts=max_attempts or kind.retry.max_attempts,
        priority=kind.priority if priority is None else checked_priority(priority),
        due_at=due_at,
        deadline_at=deadline_at if kind.expires_s is None else _earlier(deadline_at, kind.expires_s),
        order_id=order_id,
        event_id=event_id,
        lane=lane or kind.lane,
        trace_context=trace_context,
        unique_key=key,
        unique_for_s=unique_for_s,
    )


def _seconds(period: timedelta | None) -> float | None:
    return None if period is None else period.total_seconds()


def _check_key(key: str | None, unique_for_s: float | None) -> None:
    if key is None:
        raise ValueError("unique_for wants a unique_key")
    if not 1 <= len(key) <= LONGEST_KEY:
        raise ValueError(f"a unique key has 1 to {LONGEST_KEY} characters, not {len(key)}")
    if unique_for_s is not None and unique_for_s <= 0:
        raise ValueError("unique_for is longer than nothing")


def _earlier(deadline_at: datetime | None, expires_s: float) -> datetime:
    own = database_time.now() + timedelta(seconds=expires_s)
    return own if deadline_at is None else min(own, deadline_at)


#: Follows a CTE `new_jobs` with the columns of NewJob, so that the intake writes orders and root jobs in one statement.
#: Due now means: since this statement, not since its transaction began, which may be long ago.
INSERT_NEW_JOBS = """
    inserted AS (
        INSERT INTO jobs (id, tenant_id, kind, queue, state, priority, args, max_attempts, due_at, deadline_at,
                          order_id, event_id, parent_id, lane, trace_context, unique_key)
        SELECT id, tenant_id, kind, queue,
               CASE WHEN due_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END, priority,
               CAST(args AS jsonb), max_attempts, coalesce(due_at, statement_timestamp()), deadline_at, order_id,
               event_id, parent_id, lane, CAST(trace_context AS jsonb), unique_key
          FROM new_jobs),
    obliged AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
        SELECT id, queue, kind, priority, tenant_id, lane, coalesce(due_at, statement_timestamp()) FROM new_jobs)
"""

_ENQUEUE = text(
    """
    WITH new_jobs AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:kind AS text[]), CAST(:queue AS text[]),
            CAST(:args AS text[]), CAST(:max_attempts AS int[]), CAST(:priority AS smallint[]),
            CAST(:due_at AS timestamptz[]), CAST(:deadline_at AS timestamptz[]), CAST(:order_id AS uuid[]),
            CAST(:event_id AS uuid[]), CAST(:parent_id AS uuid[]), CAST(:lane AS text[]),
            CAST(:trace_context AS text[]), CAST(:unique_key AS text[]))
          AS t(id, tenant_id, kind, queue, args, max_attempts, priority, due_at, deadline_at, order_id, event_id,
               parent_id, lane, trace_context, unique_key)),
    """  # noqa: S608  # constants of ours
    + INSERT_NEW_JOBS
    + "SELECT count(*) FROM new_jobs"
)

_NO_TWINS: Mapping[UUID, UUID] = {}


def enqueue(tx: Connection, jobs: Sequence[NewJob]) -> Mapping[UUID, UUID]:
    """Each job exists and its obligation stands, if and only if the caller's transaction commits. One statement.

    Except for a job whose unique key another one has: nothing is stored of it, and the answer names the other, id ->
    the other's id.
    """
    asked = [_key_of(job) for job in jobs if job.unique_key is not None]
    twins = take_keys(tx, asked) if asked else _NO_TWINS
    fresh = [job for job in jobs if job.id not in twins] if twins else jobs
    if fresh:
        ids = {"id": uuid_array(job.id for job in fresh), "tenant_id": uuid_array(job.tenant_id for job in fresh)}
        tx.execute(_ENQUEUE, {**columns(fresh), **ids})
    return twins


def _key_of(job: NewJob) -> UniqueKey:
    return UniqueKey(job.tenant_id, job.kind, job.unique_key or "", job.id, job.unique_for_s)


def columns(rows: Sequence[msgspec.Struct]) -> dict[str, list[object]]:
    """Structs of one type as one list per field: the shape that `unnest` takes, which fills up an empty one with NULL.

    A field that no row has goes as an empty list: what is not used costs nothing.
    """
    lists = {name: [getattr(row, name) for row in rows] for name in type(rows[0]).__struct_fields__}
    return {name: [] if values.count(None) == len(values) else values for name, values in lists.items()}
