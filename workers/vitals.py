"""The thread that proves a worker lives: it renews leases, beats the process's row, and watches the clock of jobs."""

import time
from threading import Event as Flag
from threading import Thread

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from domain.fleet.workers import Process, beat
from domain.jobs.attempts import RENEW_EVERY_S, asked_to_stop, renew_leases
from ops.telemetry import JOBS_IN_PROGRESS, log
from workers.executor import Executor
from workers.holdings import Holdings

logger = log(__name__)

_TICK_S = 0.25


class Vitals:
    """One thread per worker process. A job past its timeout fails alone; the mates stuck behind it are handed back."""

    def __init__(self, engine: Engine, process: Process, holdings: Holdings, executor: Executor) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._process, self._holdings, self._executor = process, holdings, executor
        self._stopped = Flag()
        self._thread = Thread(target=self._run, name="vitals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The last renewal drops the leases whose jobs have ended."""
        self._stopped.set()
        self._thread.join(5)

    def _run(self) -> None:
        renewed_at = float("-inf")
        while not self._stopped.wait(_TICK_S):
            self._expire_overdue()
            JOBS_IN_PROGRESS.set(len(self._holdings))
            if time.monotonic() - renewed_at >= RENEW_EVERY_S:
                renewed_at = time.monotonic()
                self._renew()
        self._renew()

    def _renew(self) -> None:
        try:
            with self._engine.connect() as connection:
                beat(connection, self._process)
                live, ended = self._holdings.leases()
                renew_leases(connection, self._process.id, live, ended)
                self._holdings.dropped(ended)
                self._holdings.note_asked_to_stop(asked_to_stop(connection, self._holdings.running()))
        except SQLAlchemyError as error:  # also a pool with no connection to spare: this thread must outlive it
            cause = error.orig if isinstance(error, DBAPIError) else error
            logger.warning("lease.not_renewed", error=type(cause).__name__)

    def _expire_overdue(self) -> None:
        late, mates = self._holdings.overdue()
        for held in late:
            self._executor.expire(held.job, held.timeout_s)
        self._executor.hand_back(mates)
