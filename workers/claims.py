"""The claims of one worker process: each over a connection that does nothing else, and never an error of its bundle."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.jobs.attempts import ClaimedJob, start_if_due
from ops.telemetry import log
from workers.tally import count_claimed

logger = log(__name__)


class Claims:
    """Called by many threads."""

    def __init__(self, engine: Engine, worker_id: UUID) -> None:
        self._engine, self._worker_id = engine.execution_options(isolation_level="AUTOCOMMIT"), worker_id

    def claim(self, ids: Sequence[UUID], lease_id: UUID, most_crashes: int | None = None) -> list[ClaimedJob] | None:
        """Those that were really due, under this lease; see `start_if_due`. None = PostgreSQL could not be asked."""
        try:
            jobs = self._start(ids, lease_id, most_crashes)
        except (DBAPIError, PoolTimeout) as error:
            logger.warning("claim.failed", jobs=len(ids), error=type(error).__name__)
            return None  # nothing was claimed and they ring again, or their leases run out
        if len(jobs) < len(ids) and (most_crashes or len(ids) > 1):
            logger.info("bell.duplicate", jobs=len(ids) - len(jobs))
        count_claimed(jobs)
        return jobs

    def _start(self, ids: Sequence[UUID], lease_id: UUID, most_crashes: int | None) -> list[ClaimedJob]:
        try:
            with self._engine.connect() as connection:
                return start_if_due(connection, ids, self._worker_id, lease_id=lease_id, most_crashes=most_crashes)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # PostgreSQL was restarted since this connection was used. What a lost reply started, its lease gives back.
        with self._engine.connect() as connection:
            return start_if_due(connection, ids, self._worker_id, lease_id=lease_id, most_crashes=most_crashes)
