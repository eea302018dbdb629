"""The thread that proves a worker lives: it renews leases, beats the process's row, and watches the clock of jobs.

A worker that has half of its threads stuck in jobs that do not return makes room for another: it stops taking, ends
what it can, and leaves with exit code 1. No thread can be ended from outside, and one by one all would be lost.
"""

import time
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from domain.fleet.workers import Process, beat
from domain.jobs.attempts import RENEW_EVERY_S, asked_to_stop, renew_leases
from ops.telemetry import JOBS_IN_PROGRESS, THREADS_STUCK, log
from workers.executor import Executor

logger = log(__name__)

_TICK_S = 0.25


class Vitals:
    """One thread per worker process. A job past its timeout fails alone; the mates stuck behind it are handed back."""

    def __init__(
        self, engine: Engine, process: Process, executor: Executor, threads: int, leave: Callable[[], None]
    ) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._process, self._executor, self._holdings = process, executor, executor.holdings
        self._threads, self._leave = threads, leave
        self._is_leaving = False
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
            self._leave_if_stuck()
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
            self._executor.expire(held)
        self._executor.hand_back(mates)

    def _leave_if_stuck(self) -> None:
        stuck = self._executor.late.stuck()
        THREADS_STUCK.set(stuck)
        if 2 * stuck >= self._threads and not self._is_leaving:
            self._is_leaving = True
            logger.critical("worker.stuck", threads=stuck, of=self._threads)
            self._leave()
