"""What else becomes true in the transaction in which jobs end: an order whose reservation gave up has failed.

Everyone who ends jobs (executor, rescuer, whoever cancels) does it through here.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from domain.job_kinds import ReserveInventory
from domain.jobs.cancellation import cancel_unless_finished
from domain.jobs.finish import Finish, FinishedJob, finish_if_held
from domain.jobs.kind import kind_of_class
from domain.jobs.state_machine import JobState
from domain.orders.transitions import fail_if_accepted

_ROOT = kind_of_class(ReserveInventory).name
_GAVE_UP = {JobState.DEAD, JobState.CANCELLED}


def settle(tx: Connection, finishes: Sequence[Finish]) -> list[FinishedJob]:
    """`finish_if_held`, and the orders of root jobs that gave up are failed. Answers what was really written."""
    finished = finish_if_held(tx, finishes)
    _fail_orders(tx, finished)
    return finished


def cancel(tx: Connection, tenant_id: UUID, job_id: UUID) -> FinishedJob | None:
    """`cancel_unless_finished`, and the order of a root job that was waiting is failed."""
    cancelled = cancel_unless_finished(tx, tenant_id, job_id)
    if cancelled is not None:
        _fail_orders(tx, [cancelled])
    return cancelled


def _fail_orders(tx: Connection, ended: Sequence[FinishedJob]) -> None:
    given_up = [job for job in ended if job.kind == _ROOT and job.state in _GAVE_UP and job.order_id]
    fail_if_accepted(tx, {job.order_id: f"RESERVATION_{job.state.upper()}" for job in given_up if job.order_id})
