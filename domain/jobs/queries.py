"""Jobs as their owner and the operators read them. Queries on behalf of a tenant name it; operators pass None."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, Select, select, text

from domain.errors import NotFound
from domain.tables import attempts, jobs, outbox


class JobFilter(msgspec.Struct, frozen=True):
    """Which jobs: all fields given must match."""

    state: str | None = None
    kind: str | None = None
    queue: str | None = None
    order_id: UUID | None = None


def get_job(tx: Connection, tenant_id: UUID | None, job_id: UUID) -> Row[Any]:
    """One job. Raises NotFound, also for another tenant's."""
    row = tx.execute(_of_tenant(select(jobs), tenant_id).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(resource="Job")
    return row


def list_jobs(
    tx: Connection, tenant_id: UUID | None, wanted: JobFilter, *, after: UUID | None = None, limit: int
) -> Sequence[Row[Any]]:
    """Jobs, newest first, those before the id `after`."""
    query = _of_tenant(select(jobs), tenant_id).order_by(jobs.c.id.desc()).limit(limit)
    for name in wanted.__struct_fields__:
        if (value := getattr(wanted, name)) is not None:
            query = query.where(jobs.c[name] == value)
    return tx.execute(query if after is None else query.where(jobs.c.id < after)).all()


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


_DEPTHS = text(
    """
    WITH obligations AS (
        SELECT o.queue, o.due_at, o.rings > 0 AS rung, o.due_at > clock_timestamp() AS later,
               coalesce(l.state = 'disabled' OR l.parked_until > clock_timestamp(), false) AS held
          FROM outbox AS o LEFT JOIN lanes AS l ON l.name = o.lane),
    waiting AS (
        SELECT queue, count(*) FILTER (WHERE held) AS held, count(*) FILTER (WHERE rung AND NOT held) AS rung,
               count(*) FILTER (WHERE later AND NOT rung AND NOT held) AS later,
               count(*) FILTER (WHERE NOT later AND NOT rung AND NOT held) AS due,
               extract(epoch FROM clock_timestamp() - min(due_at) FILTER (WHERE NOT rung AND NOT held)) AS oldest_s
          FROM obligations GROUP BY queue),
    running AS (SELECT queue, count(*) AS running FROM jobs WHERE state = 'running' GROUP BY queue),
    dead AS (SELECT snapshot ->> 'queue' AS queue, count(*) AS dead FROM dead_letters
              WHERE resolution IS NULL GROUP BY 1)
    SELECT queue, coalesce(due, 0) AS due, coalesce(rung, 0) AS rung, coalesce(later, 0) AS later,
           coalesce(held, 0) AS held, coalesce(running, 0) AS running, coalesce(dead, 0) AS dead,
           CAST(greatest(coalesce(oldest_s, 0), 0) AS float8) AS oldest_seconds
      FROM waiting FULL JOIN running USING (queue) FULL JOIN dead USING (queue) ORDER BY queue
    """
)


def queue_depths(tx: Connection) -> Sequence[Row[Any]]:
    """Per queue: due, rung, later, held (its lane is parked or disabled), running and dead jobs, and the age in seconds
    of the oldest obligation that could run and nobody has rung.
    """
    return tx.execute(_DEPTHS).all()


_OUTBOX_STATE = text(
    """
    SELECT kind, coalesce(lane, '') AS lane, count(*) AS rows,
           count(*) FILTER (WHERE due_at <= clock_timestamp()) AS due, max(rings) AS most_rings,
           CAST(extract(epoch FROM clock_timestamp() - min(due_at)) AS float8) AS oldest_seconds
      FROM outbox GROUP BY 1, 2 ORDER BY rows DESC LIMIT :limit
    """
)


def outbox_groups(tx: Connection, limit: int = 100) -> Sequence[Row[Any]]:
    """The obligations that stand, grouped by kind and lane, largest group first."""
    return tx.execute(_OUTBOX_STATE, {"limit": limit}).all()


def _of_tenant(query: Select[Any], tenant_id: UUID | None) -> Select[Any]:
    return query if tenant_id is None else query.where(jobs.c.tenant_id == tenant_id)
