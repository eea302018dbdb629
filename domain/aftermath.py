"""What else becomes true in the transaction in which jobs end: the order of a reservation that gave up has failed, the
unique key is free, and the group knows and fires when it is complete.

Everyone who ends jobs (executor, rescuer, whoever cancels) does it through here.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection

from domain.job_kinds import ReserveInventory
from domain.jobs.cancellation import cancel_unless_finished
from domain.jobs.finish import Finish, FinishedJob, finish_if_held
from domain.jobs.groups import Count, count_children, counts_of
from domain.jobs.kind import kind_of_class
from domain.jobs.state_machine import TERMINAL, JobState
from domain.jobs.unique import UniqueKey, release_keys
from domain.orders.transitions import fail_if_accepted

_ROOT = kind_of_class(ReserveInventory).name
_GAVE_UP = {JobState.DEAD, JobState.CANCELLED}


def settle(tx: Connection, finishes: Sequence[Finish]) -> list[FinishedJob]:
    """`finish_if_held`, and what follows from the ends among them. Answers what was really written."""
    finished = finish_if_held(tx, finishes)
    _follow_up(tx, finished)
    return finished


def cancel(tx: Connection, tenant_id: UUID, job_id: UUID) -> FinishedJob | None:
    """`cancel_unless_finished`, and what follows if the job was waiting."""
    cancelled = cancel_unless_finished(tx, tenant_id, job_id)
    if cancelled is not None:
        _follow_up(tx, [cancelled])
    return cancelled


def recount(tx: Connection, counts: Mapping[UUID, Count]) -> None:
    """`count_children`, and what follows for the jobs that can no longer run."""
    _follow_up(tx, count_children(tx, counts))


def _follow_up(tx: Connection, ended: Sequence[FinishedJob]) -> None:
    _fail_orders(tx, ended)
    # What most jobs do not have costs them one look.
    special = [job for job in ended if (job.parent_id or job.unique_key) and job.state in TERMINAL]
    if special:
        release_keys(
            tx, [UniqueKey(job.tenant_id, job.kind, job.unique_key, job.id) for job in special if job.unique_key]
        )
        recount(tx, counts_of(special))


def _fail_orders(tx: Connection, ended: Sequence[FinishedJob]) -> None:
    given_up = [job for job in ended if job.kind == _ROOT and job.state in _GAVE_UP and job.order_id]
    reasons = {(job.tenant_id, job.order_id): f"RESERVATION_{job.state.upper()}" for job in given_up if job.order_id}
    fail_if_accepted(tx, reasons)
