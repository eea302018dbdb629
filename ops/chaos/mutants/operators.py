"""Seeded bugs of what operators ask for, and of what goes by the calendar."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, select

from domain.errors import DeadLetterResolved
from domain.jobs.outbox import NewJob
from domain.tables.jobs import dead_letters
from ops.chaos.mutants.graft import imported, mutant, replace
from workers.limits import Limits
from workers.scheduler import Scheduler


@mutant("what is paused rests")
def paused_runs_on() -> None:
    """A queue that is paused is rung like any other."""
    closed = Limits.closed

    def closed_but_for_pauses(self: Limits, queues: Sequence[str] = ()) -> Any:
        self._controls = {key: msgspec.structs.replace(one, paused=False) for key, one in self._controls.items()}
        return closed(self, queues)

    replace(Limits, "closed", closed_but_for_pauses)
    replace(Limits, "is_paused", lambda *_: False)


@mutant("each tick fires once")
def calendar_stands_still() -> None:
    """The scheduler lives, and does nothing."""
    replace(Scheduler, "turn", lambda _: None)


@mutant("each tick fires once", faults=["sessions-ended"])
def ticks_move_on_later() -> None:
    """A tick's job is committed before the tick is: whatever dies in between, it is fired again."""
    schedules = imported("domain.schedules.schedules")
    enqueue_in = schedules._enqueue

    def enqueue_first(tx: Connection, jobs: Sequence[NewJob]) -> Any:
        with tx.engine.begin() as other:
            ids = enqueue_in(other, jobs)
        time.sleep(2.0)
        return ids

    replace(schedules, "_enqueue", enqueue_first)


@mutant("a dead letter is resolved once", faults=["replay-storm"])
def letters_are_replayed_without_a_lock() -> None:
    """Two operators who replay a dead letter at the same moment have both replayed it."""
    letters = imported("domain.jobs.dead_letters")

    def look(tx: Connection, dead_letter_id: UUID) -> Any:
        found = select(dead_letters).where(dead_letters.c.id == dead_letter_id)
        letter = tx.execute(found).one()
        if letter.resolution is not None:
            raise DeadLetterResolved(resolution=letter.resolution)
        time.sleep(0.001)
        return letter

    replace(letters, "_lock_open", look)
