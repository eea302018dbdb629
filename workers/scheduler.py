"""The scheduler: what happens by the calendar. Schedules fire, partitions are made ahead, old jobs leave.

Any number may run: a tick is fired by whoever holds its schedule's row, the rest takes turns by advisory locks.
"""

import time
from threading import Thread

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.database import database_clock
from domain.jobs.partitions import create_partitions_ahead
from domain.schedules.schedules import Fired, fire_due
from ops.telemetry import log
from workers.retention import retain

logger = log(__name__)

TURN_EVERY_S = 1.0
PARTITIONS_EVERY_S = 3_600.0
RETENTION_EVERY_S = 3_600.0
#: What a long reader of the jobs holds up is tried again after this.
POSTPONED_FOR_S = 60.0
#: A turn ends after so many passes, so that the process hears a signal and tells that it lives.
PASSES_PER_TURN = 20


class Scheduler:
    """One scheduler; `turn` is whatever is due now. An outage of PostgreSQL is waited out by the next turn."""

    def __init__(self, engine: Engine, retention_days: int) -> None:
        self._engine, self._retention_days = engine, retention_days
        self._partitions_at = self._retention_at = float("-inf")
        self._retention: Thread | None = None

    def turn(self) -> None:
        """Fires what is due, and starts what is due by the hour."""
        try:
            self._fire()
            self._create_partitions()
        except DBAPIError as error:
            logger.warning("scheduler.database_unreachable", error=type(error.orig).__name__)
            return
        if time.monotonic() >= self._retention_at and not (self._retention and self._retention.is_alive()):
            # A thread of its own: a big week takes longer to drop than a tick may wait. Killed, it is taken up again.
            self._retention_at = time.monotonic() + POSTPONED_FOR_S
            self._retention = Thread(target=self._retain, name="retention", daemon=True)
            self._retention.start()

    def _create_partitions(self) -> None:
        if time.monotonic() < self._partitions_at:
            return
        self._partitions_at = time.monotonic() + POSTPONED_FOR_S
        with self._engine.begin() as tx:
            created = create_partitions_ahead(tx, database_clock(tx))
        self._partitions_at = time.monotonic() + PARTITIONS_EVERY_S
        if created:
            logger.info("partitions.created", names=created)

    def _fire(self) -> None:
        for _ in range(PASSES_PER_TURN):
            with self._engine.begin() as tx:
                fired = fire_due(tx, database_clock(tx))
            for one in fired:
                _tell(one)
            if not fired:
                return

    def _retain(self) -> None:
        try:
            done = retain(self._engine, self._retention_days)
        except DBAPIError as error:
            logger.warning("retention.interrupted", error=type(error.orig).__name__)
            return
        self._retention_at = time.monotonic() + (POSTPONED_FOR_S if done.postponed else RETENTION_EVERY_S)
        facts = done.facts()
        if any(facts.values()):
            logger.info("retention.done", **facts)


def _tell(fired: Fired) -> None:
    if fired.trouble is not None:
        logger.error("schedule.paused", schedule=fired.name, error=fired.trouble)
    elif fired.job_ids:
        logger.info("schedule.fired", schedule=fired.name, jobs=len(fired.job_ids), job_id=str(fired.job_ids[-1]))
    else:
        logger.warning("schedule.ticks_dropped", schedule=fired.name)
