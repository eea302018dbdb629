"""Holding a job that waits: the way to it leads through its outbox row.

Outbox before jobs is the order in which everybody locks, as the claim does; the other way round deadlocks.
"""

from collections.abc import Container, Iterator
from itertools import count
from uuid import UUID

from sqlalchemy import Connection, select, text

from domain.errors import InvalidState, NotFound
from domain.jobs.state_machine import WAITING, JobState
from domain.tables.jobs import jobs

#: How often somebody who finds a job waiting without a row looks again: it may have been put back that moment.
_LOOKS = 20

_LOCK = text("SELECT true FROM outbox WHERE job_id = :job_id FOR UPDATE")


def looks_at_waiting(
    tx: Connection, tenant_id: UUID | None, job_id: UUID, verb: str, *, may_be: Container[JobState] = WAITING
) -> Iterator[bool]:
    """Whether the job's outbox row is the caller's until it commits: the job waits, and nobody starts it meanwhile.

    Asked anew, until the caller has what it came for, as long as the job is in a state that it `may_be` in: it moved
    between two statements, and its row is ours to see now. Otherwise raises NotFound, or InvalidState: a job in this
    state cannot be `verb`. In the end the answer is true for a job that has lost its row, too.
    """
    for look in count(1):
        yield _lock_obligation(tx, job_id) or look >= _LOOKS
        state = _state_of(tx, tenant_id, job_id)
        if state is None:
            raise NotFound(resource="Job")
        if JobState(state) not in may_be:
            raise InvalidState(resource="The job", state=state, verb=verb)


def _lock_obligation(tx: Connection, job_id: UUID) -> bool:
    return bool(tx.execute(_LOCK, {"job_id": job_id}).scalar())


def _state_of(tx: Connection, tenant_id: UUID | None, job_id: UUID) -> str | None:
    state = select(jobs.c.state).where(jobs.c.id == job_id)
    return tx.execute(state if tenant_id is None else state.where(jobs.c.tenant_id == tenant_id)).scalar()
