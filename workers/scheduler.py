"""The scheduler: what happens by the calendar. Today that is the partitions of the weeks ahead."""

import time
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.jobs.partitions import create_partitions_ahead
from ops.telemetry import log

logger = log(__name__)

PARTITIONS_EVERY_S = 3_600.0


class Scheduler:
    """One scheduler; any number may run, since each step holds an advisory lock or skips locked rows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._partitioned_at = float("-inf")

    def turn(self) -> None:
        """Whatever the calendar says is due now. An outage of PostgreSQL is waited out by the next turn."""
        if time.monotonic() - self._partitioned_at < PARTITIONS_EVERY_S:
            return
        try:
            with self._engine.begin() as tx:
                created = create_partitions_ahead(tx, datetime.now(UTC))
        except DBAPIError as error:
            logger.warning("scheduler.database_unreachable", error=type(error.orig).__name__)
            return
        self._partitioned_at = time.monotonic()
        if created:
            logger.info("partitions.created", names=created)
