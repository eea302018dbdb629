"""The calendar of a run: schedules by the minute whose first ticks passed minutes ago, so that each is due at once.

They want every tick made up for: each is one job, whatever dies meanwhile. Where one stands is in the database.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import SQLAlchemyError

from domain.database import database_clock
from domain.schedules.schedule_plan import plan_schedule
from domain.schedules.schedule_rules import CatchUp
from domain.schedules.schedules import add_schedule
from ops.chaos.history import History
from ops.chaos.kinds import TICK
from ops.chaos.system import ChaosFailed, System

EVERY_S = 3.0
_MISSED = timedelta(minutes=4)
_FIRED_WITHIN_S = 30.0

_OVERDUE = text(
    "SELECT count(*) FROM schedules WHERE kind = :kind AND next_at < clock_timestamp() - interval '2 seconds'"
)
_STOP = text("UPDATE schedules SET paused_at = clock_timestamp() WHERE kind = :kind")
_TICKS = text(
    """
    SELECT s.name, s.next_at, array_agg(j.args ->> 'tick') FILTER (WHERE j.id IS NOT NULL) AS ticks
      FROM schedules AS s LEFT JOIN jobs AS j ON j.kind = s.kind AND j.args ->> 'schedule' = s.name
     WHERE s.kind = :kind GROUP BY s.name, s.next_at
    """
)


def schedules(running: System, tenant_id: str, history: History) -> Callable[[], None]:
    """What it answers adds one schedule each time it is called."""

    def add() -> None:
        name = f"chaos-{uuid4().hex}"
        plan = plan_schedule(
            name=name, kind=TICK, args={"schedule": name}, cron="* * * * *", time_zone="UTC", catch_up=CatchUp.ALL
        )
        with suppress(SQLAlchemyError):  # it stands, or not: nobody knows, and nobody relies on it
            with running.engine.begin() as tx:
                first = add_schedule(tx, plan, UUID(tenant_id), database_clock(tx) - _MISSED, "chaos")
            history.schedules[name] = first

    return add


def stop_the_calendar(running: System, history: History) -> None:
    """Every tick that has passed was fired, or it is noted; no other comes. Raises ChaosFailed."""
    try:
        running.wait(lambda: _overdue(running) == 0, "not every tick was fired", _FIRED_WITHIN_S)
    except ChaosFailed as failed:
        history.breaks("each tick fires once", str(failed))
    running.wait(lambda: _stop(running), "the calendar could not be stopped", _FIRED_WITHIN_S)


def _overdue(running: System) -> int:
    with running.engine.connect() as connection:
        return int(connection.execute(_OVERDUE, {"kind": TICK}).scalar_one())


def _stop(running: System) -> bool:
    with running.engine.begin() as tx:
        tx.execute(_STOP, {"kind": TICK})
    return True


def ticks_fired(connection: Connection) -> Sequence[Row[Any]]:
    """By schedule, the first tick that nobody has fired, and those that became jobs."""
    return connection.execute(_TICKS, {"kind": TICK}).all()
