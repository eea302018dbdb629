"""Jobs as their owner and the operators read them. Queries on behalf of a tenant name it; operators pass None."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Connection, Label, Row, Select, any_, cast, func, literal_column, select, text

from domain.errors import NotFound
from domain.jobs.attempts import RUNNING_JOBS
from domain.jobs.groups import CHILDREN_COLUMN
from domain.jobs.partitions import within
from domain.stretch import Stretch
from domain.tables.jobs import attempts, dead_letters, jobs
from domain.tables.outbox import leases, outbox


class JobFilter(msgspec.Struct, frozen=True):
    """Which jobs: all fields given must match."""

    state: str | None = None
    kind: str | None = None
    queue: str | None = None
    order_id: UUID | None = None
    parent_id: UUID | None = None


_CHILDREN: Label[Any] = literal_column(CHILDREN_COLUMN.format(jobs="jobs")).label("children")


def get_job(tx: Connection, tenant_id: UUID | None, job_id: UUID) -> Row[Any]:
    """One job, and `children` when it waits or waited for others. Raises NotFound, also for another tenant's."""
    row = tx.execute(_of_tenant(select(jobs, _CHILDREN), tenant_id).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(resource="Job")
    return row


def list_jobs(
    tx: Connection,
    tenant_id: UUID | None,
    wanted: JobFilter,
    stretch: Stretch,
    *,
    among: Sequence[UUID] | None = None,
) -> Sequence[Row[Any]]:
    """A stretch of the jobs that match, by id; only those `among`, if that is given.

    Leases are not for the eyes of a tenant's session: whoever asks in one for running jobs names those held.
    """
    query = _of_tenant(select(jobs), tenant_id)
    for name in wanted.__struct_fields__:
        if (value := getattr(wanted, name)) is not None:
            query = query.where(jobs.c[name] == value)
    if among is not None:
        query = query.where(jobs.c.id == any_(cast(list(among), ARRAY(jobs.c.id.type))))
    elif (table := _SHORTCUTS.get(wanted.state or "")) is not None:
        query = query.where(jobs.c.id.in_(table))
    return tx.execute(stretch.of(query, jobs.c.id)).all()


# No index knows the state. Whoever waits has an outbox row, whoever runs a lease, whoever died a dead letter,
# whoever was cancelled the time when it was asked for.
_WAITING = select(outbox.c.job_id)
_HELD = select(func.unnest(leases.c.job_ids))
_SHORTCUTS = {
    "scheduled": _WAITING,
    "queued": _WAITING,
    "retrying": _WAITING,
    "running": _HELD,
    "dead": select(dead_letters.c.job_id),
    "cancelled": select(jobs.c.id).where(jobs.c.cancel_requested_at.is_not(None)),
}


def held_jobs(tx: Connection) -> Sequence[UUID]:
    """The jobs that workers hold, of all tenants; some may have ended just now."""
    return tx.execute(_HELD).scalars().all()


def attempts_of(tx: Connection, job_ids: Sequence[UUID]) -> dict[UUID, list[Row[Any]]]:
    """The recorded attempts of these jobs by job id, oldest first. The caller has checked whose jobs they are."""
    found: dict[UUID, list[Row[Any]]] = {job_id: [] for job_id in job_ids}
    if job_ids:
        c = attempts.c
        within = c.job_id.between(min(job_ids), max(job_ids))
        for row in tx.execute(select(attempts).where(c.job_id.in_(job_ids), within).order_by(c.job_id, c.claim)):
            found[row.job_id].append(row)
    return found


def get_obligation(tx: Connection, job_id: UUID) -> Row[Any] | None:
    """The job's outbox row, if one stands."""
    return tx.execute(select(outbox).where(outbox.c.job_id == job_id)).first()


_LEASE = text(
    """
    SELECT lease_until FROM leases CROSS JOIN LATERAL unnest(job_ids, claims) AS held(id, claim)
      JOIN jobs AS j ON j.id = held.id AND j.claim = held.claim AND j.state = 'running'
     WHERE :id = ANY(job_ids) AND held.id = :id
    """
)


def lease_of(tx: Connection, job_id: UUID) -> datetime | None:
    """Until when the worker that runs this job may be silent; None when it does not run."""
    return tx.execute(_LEASE, {"id": job_id}).scalar()


_OBLIGATIONS = """
    obligations AS (
        SELECT o.*, o.rings = 0 AND o.due_at > clock_timestamp() AS later,
               q.paused_at IS NOT NULL OR k.paused_at IS NOT NULL OR t.status = 'suspended'
                OR coalesce(l.state IN ('disabled', 'parked'), false) AS held
          FROM outbox AS o LEFT JOIN lanes AS l ON l.name = o.lane
          LEFT JOIN controls AS q ON q.scope = 'queue' AND q.name = o.queue
          LEFT JOIN controls AS k ON k.scope = 'kind' AND k.name = o.kind
          JOIN tenants AS t ON t.id = o.tenant_id)
    """

_DEPTHS = text(
    f"""
    WITH {_OBLIGATIONS},
    waiting AS (
        SELECT queue, count(*) FILTER (WHERE held) AS held, count(*) FILTER (WHERE later AND NOT held) AS later,
               count(*) FILTER (WHERE NOT later AND NOT held) AS due,
               extract(epoch FROM clock_timestamp() - min(due_at) FILTER (WHERE NOT later AND NOT held)) AS oldest_s
          FROM obligations GROUP BY queue),
    running AS (SELECT queue, count(*) AS running FROM ({RUNNING_JOBS}) AS held GROUP BY queue),
    dead AS (SELECT snapshot ->> 'queue' AS queue, count(*) AS dead FROM dead_letters
              WHERE resolution IS NULL GROUP BY 1)
    SELECT queue, coalesce(due, 0) AS due, coalesce(later, 0) AS later, coalesce(held, 0) AS held,
           coalesce(running, 0) AS running, coalesce(dead, 0) AS dead,
           CAST(greatest(coalesce(oldest_s, 0), 0) AS float8) AS oldest_seconds
      FROM waiting FULL JOIN running USING (queue) FULL JOIN dead USING (queue) ORDER BY queue
    """  # noqa: S608  # constants of ours
)


def queue_depths(tx: Connection) -> Sequence[Row[Any]]:
    """Per queue: jobs that are due (rung or not), later, held (paused, of a suspended tenant, or in a lane that is
    parked or disabled), running and dead, and for how many seconds the oldest of those that are due has been so.
    """
    return tx.execute(_DEPTHS).all()


_OUTBOX_STATE = text(
    f"""
    WITH {_OBLIGATIONS}
    SELECT kind, lane, count(*) AS rows, count(*) FILTER (WHERE NOT held AND due_at <= clock_timestamp()) AS due,
           count(*) FILTER (WHERE held) AS held, max(rings) AS most_rings,
           CAST(greatest(extract(epoch FROM clock_timestamp() - min(due_at)), 0) AS float8) AS oldest_seconds
      FROM obligations GROUP BY kind, lane ORDER BY rows DESC LIMIT :limit
    """  # noqa: S608  # constants of ours
)


def outbox_groups(tx: Connection, limit: int = 100) -> Sequence[Row[Any]]:
    """The obligations that stand, grouped by kind and lane, largest group first: held as in `queue_depths`."""
    return tx.execute(_OUTBOX_STATE, {"limit": limit}).all()


_REQUEST_IDS = """
    SELECT DISTINCT trace_context ->> 'requestId' FROM jobs
     WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks} AND trace_context ? 'requestId'
    """


def request_ids_of(tx: Connection, job_ids: Sequence[UUID]) -> list[str]:
    """The requests behind these jobs."""
    return list(tx.execute(within(_REQUEST_IDS, job_ids), {"ids": list(job_ids)}).scalars())


def _of_tenant(query: Select[Any], tenant_id: UUID | None) -> Select[Any]:
    return query if tenant_id is None else query.where(jobs.c.tenant_id == tenant_id)
