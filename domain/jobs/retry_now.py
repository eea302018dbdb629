"""Not waiting for the clock: a waiting job is due at once, by an operator or since what it waited for is another now.

Its state, attempts and history stay.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, text

from domain.audit import record_act
from domain.jobs.attempts import uuid_array
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


# Found by the index among any number that are due. Rows that were rung wait for their claim; whoever has one locked
# moves it anyway. Outbox rows are locked before their jobs, and in id order, as the claim does it.
_LOCK_LATER = text(
    """
    SELECT job_id FROM outbox
     WHERE rings = 0 AND job_id = ANY(ARRAY(
           SELECT job_id FROM outbox
            WHERE lane = :lane AND tenant_id = :tenant_id AND due_at > now() AND rings = 0 LIMIT :limit))
     ORDER BY job_id FOR UPDATE SKIP LOCKED
    """
)
_MAKE_ALL_DUE = """
    WITH hurried AS (UPDATE outbox SET due_at = clock_timestamp() WHERE job_id = ANY(CAST(:ids AS uuid[])))
    UPDATE jobs SET due_at = clock_timestamp(), version = version + 1
     WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks} AND state IN ('scheduled', 'queued', 'retrying')
    """


#: How many jobs of a lane are hurried at once: the transaction stays short.
MOST_HURRIED = 1_000


def make_lane_due_now(tx: Connection, tenant_id: UUID, lane: str) -> None:
    """Up to MOST_HURRIED of the tenant's jobs in this lane that wait for their own later time are due now."""
    if ids := tx.execute(_LOCK_LATER, {"lane": lane, "tenant_id": tenant_id, "limit": MOST_HURRIED}).scalars().all():
        tx.execute(within(_MAKE_ALL_DUE, ids), {"ids": uuid_array(ids)})


def latest_dead_letter_of(tx: Connection, job_id: UUID) -> Row[Any] | None:
    """The dead letter of the job's last death, if it ever died: the one to replay while the job is dead."""
    newest = select(dead_letters).where(dead_letters.c.job_id == job_id).order_by(dead_letters.c.id.desc()).limit(1)
    return tx.execute(newest).first()
