"""Deeds: jobs whose one effect is a row in a table of the harness, so that the effects of each job can be counted.

Nothing in that table stops a second row: what is there once was done once. Some deeds take their effect back and give
up; of them nothing may be there.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import SQLAlchemyError

from domain.jobs.outbox import enqueue, new_job
from ops.chaos.history import History
from ops.chaos.kinds import Deed, Patient
from ops.chaos.system import System
from workers.broker import ring_relay

EVERY_S = 0.2
_LONGEST_S, _FAIL = 1.5, 0.2
#: Half as long again as a lease.
_PATIENT_S = 12.0

_MAKE = (
    text("CREATE TABLE chaos_deeds (job_id uuid NOT NULL, claim int NOT NULL)"),
    text("GRANT INSERT ON chaos_deeds TO PUBLIC"),
)
_DEEDS = text("SELECT job_id, claim FROM chaos_deeds")


def deeds(running: System, history: History, tenant_id: str, dice: random.Random) -> Callable[[], None]:
    """The table is there when this returns, and somebody has patience. What it answers asks for one deed each time."""
    patient = new_job(Patient(_PATIENT_S), tenant_id=UUID(tenant_id))
    history.enqueued.add(str(patient.id))
    with running.engine.begin() as tx:
        for statement in _MAKE:
            tx.execute(statement)
        enqueue(tx, [patient])

    def ask() -> None:
        deed = new_job(Deed(dice.uniform(0, _LONGEST_S), dice.random() < _FAIL), tenant_id=UUID(tenant_id))
        history.enqueued.add(str(deed.id))
        with suppress(SQLAlchemyError):  # whether it was asked for is in the database, or nowhere
            with running.engine.begin() as tx:
                enqueue(tx, [deed])
            ring_relay(running.redis)

    return ask


def deeds_done(connection: Connection) -> Sequence[Row[Any]]:
    """A row for each effect: of which job, under which claim."""
    return connection.execute(_DEEDS).all()
