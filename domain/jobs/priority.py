"""Moving a waiting job up or down: an operator gives the job and its obligation another priority."""

from uuid import UUID

from sqlalchemy import Connection, select

from domain.audit import record_act
from domain.errors import InvalidState, NotFound
from domain.jobs.outbox import LOOKS, lock_obligation
from domain.jobs.partitions import within
from domain.jobs.priority_rules import checked_priority
from domain.jobs.state_machine import WAITING, JobState
from domain.tables import jobs

_MOVE = """
    WITH moved AS (
        UPDATE jobs SET priority = :priority, version = version + 1
         WHERE id = :id AND id {weeks} AND state IN ('scheduled', 'queued', 'retrying')
     RETURNING id, tenant_id),
    obliged AS (UPDATE outbox SET priority = :priority FROM moved WHERE outbox.job_id = moved.id)
    SELECT tenant_id FROM moved
    """


def reprioritise_if_waiting(
    tx: Connection, job_id: UUID, priority: int, by: str, reason: str | None = None, *, looks: int = LOOKS
) -> None:
    """The job and its obligation have this priority; its retries keep it. The next pass of the relay obeys it.

    Raises NotFound, InvalidState when it runs or has ended, ValueError when the priority is off the scale.
    """
    move = {"id": job_id, "priority": checked_priority(priority)}
    waits = lock_obligation(tx, job_id) or looks <= 1
    tenant_id = tx.execute(within(_MOVE, [job_id]), move).scalar() if waits else None
    if tenant_id is not None:
        return record_act(tx, tenant_id, by, "job.reprioritised", str(job_id), reason, {"priority": priority})
    state = tx.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar()
    if state is None:
        raise NotFound(resource="Job")
    if JobState(state) in WAITING:  # it moved between the two statements: the row is ours to see now
        return reprioritise_if_waiting(tx, job_id, priority, by, reason, looks=looks - 1)
    raise InvalidState(resource="The job", state=state, verb="reprioritised")
