"""Not waiting for the clock: an operator makes a waiting job due at once. Its state, attempts and history stay."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from domain.audit import record_act
from domain.jobs.partitions import within
from domain.jobs.waiting import looks_at_waiting
from domain.tables.jobs import dead_letters

# A row rung before is taken as new: its bell may be the one that got lost.
_MAKE_DUE = """
    WITH hurried AS (
        UPDATE jobs SET due_at = least(due_at, clock_timestamp()), version = version + 1
         WHERE id = :id AND id {weeks} AND state IN ('scheduled', 'queued', 'retrying')
     RETURNING id, tenant_id, kind, queue, priority, lane, due_at),
    obliged AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
        SELECT id, queue, kind, priority, tenant_id, lane, due_at FROM hurried
            ON CONFLICT (job_id) DO UPDATE SET due_at = excluded.due_at, rings = 0)
    SELECT tenant_id FROM hurried
    """


def make_due_now_if_waiting(tx: Connection, job_id: UUID, by: str, reason: str | None = None) -> None:
    """The job and its obligation are due now. The relay moves it on; a parked lane still holds it.

    Raises NotFound, or InvalidState when it runs or has ended. Two at once both succeed: it is due.
    """
    for waits in looks_at_waiting(tx, None, job_id, "made due"):
        if waits and (tenant_id := tx.execute(within(_MAKE_DUE, [job_id]), {"id": job_id}).scalar()):
            record_act(tx, tenant_id, by, "job.retried_now", str(job_id), reason)
            break


def latest_dead_letter_of(tx: Connection, job_id: UUID) -> Row[Any] | None:
    """The dead letter of the job's last death, if it ever died: the one to replay while the job is dead."""
    newest = select(dead_letters).where(dead_letters.c.job_id == job_id).order_by(dead_letters.c.id.desc()).limit(1)
    return tx.execute(newest).first()
