"""Cancelling: at once while a job waits, by asking its handler while it runs."""

from uuid import UUID

from sqlalchemy import Connection, text

from domain.errors import InvalidState, NotFound
from domain.jobs.finish import FinishedJob
from domain.jobs.outbox import LOOKS, lock_obligation
from domain.jobs.partitions import within
from domain.jobs.state_machine import TERMINAL, JobState

# The outbox row goes with the state: a cancelled job has no obligation left to ring.
_CANCEL_WAITING = """
    WITH cancelled AS (
        UPDATE jobs SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp(),
               cancel_requested_at = clock_timestamp()
         WHERE id = :id AND id {weeks} AND tenant_id = :tenant_id AND state IN ('scheduled', 'queued', 'retrying')
     RETURNING id, tenant_id, kind, queue, state, order_id, parent_id, unique_key),
    gone AS (DELETE FROM outbox USING cancelled WHERE outbox.job_id = cancelled.id)
    SELECT id, tenant_id, kind, queue, state, order_id, 'cancelled', parent_id, unique_key FROM cancelled
    """

_ASK_RUNNING = """
    UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), version = version + 1
     WHERE id = :id AND id {weeks} AND tenant_id = :tenant_id AND state = 'running'
    """

_STATE = text("SELECT state FROM jobs WHERE id = :id AND tenant_id = :tenant_id")


def cancel_unless_finished(tx: Connection, tenant_id: UUID, job_id: UUID, *, looks: int = LOOKS) -> FinishedJob | None:
    """The job is cancelled, and returned, if it was waiting; asked to stop, and None returned, if it runs.

    Raises NotFound, or InvalidState when it has ended. A running job that fails after being asked is not retried.
    """
    job = {"id": job_id, "tenant_id": tenant_id}
    waits = lock_obligation(tx, job_id) or looks <= 1
    if waits and (row := tx.execute(within(_CANCEL_WAITING, [job_id]), job).first()):
        return FinishedJob(*row)
    with tx.begin_nested() as look:
        if tx.execute(within(_ASK_RUNNING, [job_id]), job).rowcount:
            return None
        look.rollback()  # a row that was waited for in vain stays locked otherwise, before its outbox row
    state = tx.execute(_STATE, job).scalar()
    if state is None:
        raise NotFound(resource="Job")
    if JobState(state) not in TERMINAL:  # it moved between the two statements: the row is ours to see now
        return cancel_unless_finished(tx, tenant_id, job_id, looks=looks - 1)
    raise InvalidState(resource="The job", state=state, verb="cancelled")
