"""Moving a waiting job up or down: an operator gives the job and its obligation another priority."""

from uuid import UUID

from sqlalchemy import Connection

from domain.audit import record_act
from domain.jobs.partitions import within
from domain.jobs.priority_rules import checked_priority
from domain.jobs.waiting import looks_at_waiting

_MOVE = """
    WITH moved AS (
        UPDATE jobs SET priority = :priority, version = version + 1
         WHERE id = :id AND id {weeks} AND state IN ('scheduled', 'queued', 'retrying')
     RETURNING id, tenant_id),
    obliged AS (UPDATE outbox SET priority = :priority FROM moved WHERE outbox.job_id = moved.id)
    SELECT tenant_id FROM moved
    """


def reprioritise_if_waiting(tx: Connection, job_id: UUID, priority: int, by: str, reason: str | None = None) -> None:
    """The job and its obligation have this priority; its retries keep it. The next pass of the relay obeys it.

    Raises NotFound, InvalidState when it runs or has ended, ValueError when the priority is off the scale.
    """
    move = {"id": job_id, "priority": checked_priority(priority)}
    for waits in looks_at_waiting(tx, None, job_id, "reprioritised"):
        if waits and (tenant_id := tx.execute(within(_MOVE, [job_id]), move).scalar()):
            record_act(tx, tenant_id, by, "job.reprioritised", str(job_id), reason, {"priority": priority})
            break
