"""Cancelling: at once while a job waits, by asking its handler while it runs."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection

from domain.jobs.finish import FinishedJob
from domain.jobs.partitions import within
from domain.jobs.state_machine import TERMINAL, JobState
from domain.jobs.waiting import looks_at_waiting

# The outbox row goes with the state: a cancelled job has no obligation left to ring.
_CANCEL_WAITING = """
    WITH cancelled AS (
        UPDATE jobs SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp(),
               cancel_requested_at = clock_timestamp()
         WHERE id = :id AND id {weeks} AND tenant_id = :tenant_id AND state IN ('scheduled', 'queued', 'retrying')
     RETURNING id, claim, tenant_id, kind, queue, state, order_id, parent_id, unique_key),
    gone AS (DELETE FROM outbox USING cancelled WHERE outbox.job_id = cancelled.id)
    SELECT id, claim, tenant_id, kind, queue, state, order_id, 'cancelled', parent_id, unique_key FROM cancelled
    """

_ASK_RUNNING = """
    UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), version = version + 1
     WHERE id = :id AND id {weeks} AND tenant_id = :tenant_id AND state = 'running'
    """


def cancel_unless_finished(tx: Connection, tenant_id: UUID, job_id: UUID) -> FinishedJob | None:
    """The job is cancelled, and returned, if it was waiting; asked to stop, and None returned, if it runs.

    Raises NotFound, or InvalidState when it has ended. A running job that fails after being asked is not retried.
    """
    job = {"id": job_id, "tenant_id": tenant_id}
    for waits in looks_at_waiting(tx, tenant_id, job_id, "cancelled", may_be=set(JobState) - TERMINAL):
        if waits and (row := tx.execute(within(_CANCEL_WAITING, [job_id]), job).first()):
            return FinishedJob(*row)
        if _ask_if_running(tx, job):
            break
    return None


def _ask_if_running(tx: Connection, job: Mapping[str, UUID]) -> bool:
    with tx.begin_nested() as look:
        if tx.execute(within(_ASK_RUNNING, [job["id"]]), job).rowcount:
            return True
        look.rollback()  # a row that was waited for in vain stays locked otherwise, before its outbox row
    return False
