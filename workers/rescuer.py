"""The rescuer: takes over jobs whose worker fell silent past its lease, and finds what nobody holds.

Any number may run. Each pass is short and skips rows that another rescuer has.
"""

import time
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.fleet.workers import sweep_lost
from domain.jobs.finish import FinishedJob
from domain.jobs.rescue import mend_unheld, recount_lanes, reopen_lost_lanes, take_over_expired
from ops.telemetry import RESCUES, log

logger = log(__name__)

PASS_EVERY_S = 0.25
#: The wider nets: lanes' counts, jobs without an obligation or a lease, rows of long-lost processes.
SWEEP_EVERY_S = 5.0


class Rescuer:
    """One rescuer; `turn` is one pass."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._swept_at = float("-inf")
        self._mended_to: UUID | None = None

    def turn(self) -> int:
        """Answers how many jobs were taken over. An outage of PostgreSQL is waited out by the next turn."""
        try:
            rescued = self._take_over()
            self._sweep()
        except DBAPIError as error:
            logger.warning("rescuer.database_unreachable", error=type(error.orig).__name__)
            return 0
        return len(rescued)

    def _take_over(self) -> list[FinishedJob]:
        with self._engine.begin() as tx:
            rescued = take_over_expired(tx)
        for job in rescued:
            RESCUES.labels(job.queue).inc()
            logger.warning("job.rescued", job_id=str(job.id), kind=job.kind, state=job.state)
        return rescued

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
            with self._engine.begin() as tx:
                recount_lanes(tx)
                sweep_lost(tx)
                reopen_lost_lanes(tx)
                mended = mend_unheld(tx, self._mended_to)
            self._mended_to = mended.last
            if mended.offered:
                logger.error("outbox.rows_were_missing", jobs=mended.offered)
            if mended.leased:
                logger.error("leases.were_missing", jobs=mended.leased)
