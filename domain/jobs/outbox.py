"""The outbox: one row per obligation to start a job at or after `due_at`. It lives until a worker has claimed the job.

Everything that shall run goes through here: first run, retry, schedule, rescue, replay. Only the relay rings.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.ids import new_id
from domain.jobs.kind import JobArgs, kind_of

#: Where in Redis whoever committed new obligations wakes the relay; it holds at most so many wake-ups.
RELAY_BELL = "longshore:relay"
MOST_RELAY_BELLS = 16

#: How long a rung row waits for its claim before it rings again: below 8 s at first, doubling, at most 60 s.
FIRST_VISIBILITY_S = 7
LONGEST_VISIBILITY_S = 60


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job about to be enqueued. `due_at` None = now. `args` is its payload as JSON text."""

    id: UUID
    tenant_id: UUID
    kind: str
    queue: str
    args: str
    max_attempts: int
    priority: int = 0
    due_at: datetime | None = None
    order_id: UUID | None = None
    event_id: UUID | None = None
    parent_id: UUID | None = None
    lane: str | None = None
    trace_context: str | None = None


class DueRow(msgspec.Struct, frozen=True):
    """An outbox row that rings now. `alone` rows travel in bundles of one."""

    job_id: UUID
    kind: str
    queue: str
    lane: str | None
    alone: bool
    rings: int


def new_job(  # noqa: PLR0913  # keywords, each a column
    args: JobArgs,
    *,
    tenant_id: UUID,
    max_attempts: int | None = None,
    due_at: datetime | None = None,
    order_id: UUID | None = None,
    event_id: UUID | None = None,
    lane: str | None = None,
    trace_context: str | None = None,
) -> NewJob:
    """A job of the kind of `args`, with the kind's queue, lane and allowance of attempts unless told otherwise."""
    kind = kind_of(args)
    return NewJob(
        id=new_id(),
        tenant_id=tenant_id,
        kind=kind.name,
        queue=kind.queue,
        args=msgspec.json.encode(args).decode(),
        max_attempts=max_attempts or kind.retry.max_attempts,
        due_at=due_at,
        order_id=order_id,
        event_id=event_id,
        lane=lane or kind.lane,
        trace_context=trace_context,
    )


#: Follows a CTE `new_jobs` with the columns of NewJob, so that the intake writes orders and root jobs in one statement.
INSERT_NEW_JOBS = """
    inserted AS (
        INSERT INTO jobs (id, tenant_id, kind, queue, state, priority, args, max_attempts, due_at, order_id, event_id,
                          parent_id, lane, trace_context)
        SELECT id, tenant_id, kind, queue, CASE WHEN due_at > now() THEN 'scheduled' ELSE 'queued' END, priority,
               CAST(args AS jsonb), max_attempts, coalesce(due_at, now()), order_id, event_id, parent_id, lane,
               CAST(trace_context AS jsonb)
          FROM new_jobs),
    obliged AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
        SELECT id, queue, kind, priority, tenant_id, lane, coalesce(due_at, now()) FROM new_jobs)
"""

_ENQUEUE = text(
    """
    WITH new_jobs AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:kind AS text[]), CAST(:queue AS text[]),
            CAST(:args AS text[]), CAST(:max_attempts AS int[]), CAST(:priority AS smallint[]),
            CAST(:due_at AS timestamptz[]), CAST(:order_id AS uuid[]), CAST(:event_id AS uuid[]),
            CAST(:parent_id AS uuid[]), CAST(:lane AS text[]), CAST(:trace_context AS text[]))
          AS t(id, tenant_id, kind, queue, args, max_attempts, priority, due_at, order_id, event_id, parent_id, lane,
               trace_context)),
    """  # noqa: S608  # constants of ours
    + INSERT_NEW_JOBS
    + "SELECT count(*) FROM new_jobs"
)


def enqueue(tx: Connection, jobs: Sequence[NewJob]) -> None:
    """Each job exists and its obligation stands, if and only if the caller's transaction commits. One statement."""
    if jobs:
        tx.execute(_ENQUEUE, columns(jobs))


def columns(rows: Sequence[msgspec.Struct]) -> dict[str, list[object]]:
    """Structs of one type as one list per field: the shape that `unnest` takes."""
    return {name: [getattr(row, name) for row in rows] for name in type(rows[0]).__struct_fields__}


# The CTE is a fence: without it PostgreSQL may run the limited sub-select more than once. Due is judged by now(), which
# bounds the index scan; clock_timestamp() is volatile and would only filter what was read.
_RING = """
    UPDATE outbox
       SET rings = rings + 1,
           due_at = clock_timestamp() + make_interval(secs => least(:longest, :first * power(2, least(rings, 4))))
     WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked))
 RETURNING job_id, kind, queue, lane, alone, rings
"""

_RING_DUE = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT o.job_id FROM unnest(CAST(:queues AS text[])) AS q(queue) CROSS JOIN LATERAL (
            SELECT job_id FROM outbox
             WHERE queue = q.queue AND lane IS NULL AND due_at <= now()
             ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS o)
    """  # noqa: S608  # constants of ours
    + _RING
)

_RING_DUE_IN_LANES = text(
    """
    WITH open_lanes AS MATERIALIZED (
        SELECT name, CASE WHEN state = 'parked' THEN 1 ELSE room END - in_flight AS free FROM lanes
         WHERE queue = ANY(CAST(:queues AS text[])) AND state <> 'disabled'
           AND (parked_until IS NULL OR parked_until <= clock_timestamp())
           AND in_flight < CASE WHEN state = 'parked' THEN 1 ELSE room END
           AND EXISTS (SELECT FROM outbox WHERE lane = name AND due_at <= now())
         ORDER BY last_served LIMIT :lanes FOR UPDATE SKIP LOCKED),
    picked AS MATERIALIZED (
        SELECT o.job_id FROM open_lanes AS l CROSS JOIN LATERAL (
            SELECT job_id FROM outbox WHERE lane = l.name AND due_at <= now()
             ORDER BY due_at LIMIT least(l.free, :limit) FOR UPDATE SKIP LOCKED) AS o),
    rung AS ("""  # noqa: S608  # constants of ours
    + _RING
    + """),
    served AS (
        UPDATE lanes SET in_flight = in_flight + c.n, last_served = clock_timestamp(),
               parked_until = CASE WHEN state = 'parked' THEN clock_timestamp() + interval '30 seconds' END
          FROM (SELECT lane, count(*) AS n FROM rung GROUP BY lane) AS c WHERE name = c.lane)
    SELECT job_id, kind, queue, lane, alone, rings FROM rung
    """
)


def ring_due(tx: Connection, queues: Sequence[str], limit: int) -> list[DueRow]:
    """Up to `limit` due rows of each queue, now due again after their visibility. Rows of another relay are skipped.

    The caller pushes them to the broker before it commits: a crash in between rings twice, never not at all.
    """
    bounds = {"queues": list(queues), "limit": limit, "first": FIRST_VISIBILITY_S, "longest": LONGEST_VISIBILITY_S}
    return [DueRow(*row) for row in tx.execute(_RING_DUE, bounds)]


def ring_due_in_lanes(tx: Connection, queues: Sequence[str], limit: int, lanes: int = 200) -> list[DueRow]:
    """The same for rows with a lane: the least recently served open lanes first, each within its room.

    A parked lane whose time is up lets one row through as a probe, one per 30 s.
    """
    bounds = {"queues": list(queues), "limit": limit, "first": FIRST_VISIBILITY_S, "longest": LONGEST_VISIBILITY_S}
    return [DueRow(*row) for row in tx.execute(_RING_DUE_IN_LANES, {**bounds, "lanes": lanes})]
