"""Callers that wait for news of a job: woken within milliseconds by word of it, within seconds without.

One task reads the rows of all waited jobs that may have changed, in one statement, and hands each to those who wait for
it; a waiting caller holds no connection. PostgreSQL alone says what is new: word over Redis only says when to look.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import anyio.to_thread
from sqlalchemy import Engine, Row

from api.announcements import Announcements
from domain.errors import TooManyWaiters
from domain.jobs.announcements import changed_since
from ops.telemetry import LIVE_WAITERS, log

logger = log(__name__)

#: Each holds a connection of the server, which takes twice as many (`ops/server.py`), so that others get through; and
#: all of them stay below the usual limit of 1,024 open files.
MOST_WAITERS = 400
#: One tenant's waiters leave room for the others'.
MOST_PER_TENANT = 128
#: How often all waited rows are read: while word comes over Redis, and while it does not.
HEARING_S = 5.0
DEAF_S = 1.0


class Waiter:
    """A caller who waits for a job to get past the version it has seen."""

    def __init__(self, tenant_id: UUID, job_id: UUID, version: int) -> None:
        self.tenant_id, self.job_id, self.version = tenant_id, job_id, version
        self._row: Row[Any] | None = None
        self._woken = asyncio.Event()

    def tell(self, row: Row[Any]) -> None:
        """The job as it was read just now; that is news if it is newer than what has been told before."""
        if row.version > self.version:
            self._row, self.version = row, row.version
            self.wake()

    def wake(self) -> None:
        """Whoever waits looks around now."""
        self._woken.set()

    async def next(self, timeout_s: float) -> Row[Any] | None:
        """The job's newest row when it has changed; None when the time is up or somebody woke the caller for less."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()
        row, self._row = self._row, None
        return row


class JobNews:
    """One per API process, an async context. After `close` nobody waits any longer."""

    def __init__(self, engine: Engine, redis_url: str) -> None:
        self.closing = False
        self._engine = engine
        self._announcements = Announcements(redis_url, self._hear)
        self._waiters: dict[bytes, set[Waiter]] = {}  # by job id
        self._of_tenant: Counter[UUID] = Counter()
        self._announced: set[bytes] = set()
        self._wanted = asyncio.Event()
        self._read_all_at = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "JobNews":
        self._loop = asyncio.get_running_loop()
        await self._announcements.__aenter__()
        self._task = asyncio.create_task(self._read_when_wanted())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._announcements.__aexit__()

    def close(self) -> None:
        """Whoever waits is answered now with what there is: a process that stops has no time to wait for jobs."""
        self.closing = True
        for waiter in self._everybody():
            waiter.wake()

    @contextmanager
    def waiting(self, job: Row[Any]) -> Iterator[Waiter]:
        """Waits for a job from this row of it on: whatever has changed since, before or after this call, is news.

        Raises TooManyWaiters when this process, or this tenant in it, has as many as it may.
        """
        self._refuse_if_full(job.tenant_id)
        waiter, key = Waiter(job.tenant_id, job.id, job.version), job.id.bytes
        self._waiters.setdefault(key, set()).add(waiter)
        self._of_tenant[job.tenant_id] += 1
        LIVE_WAITERS.inc()
        self._hear([key])
        try:
            yield waiter
        finally:
            LIVE_WAITERS.dec()
            self._of_tenant[job.tenant_id] -= 1
            if not self._of_tenant[job.tenant_id]:
                del self._of_tenant[job.tenant_id]
            self._waiters[key].discard(waiter)
            if not self._waiters[key]:
                del self._waiters[key]

    def _refuse_if_full(self, tenant_id: UUID) -> None:
        if self._of_tenant.total() >= MOST_WAITERS or self._of_tenant[tenant_id] >= MOST_PER_TENANT:
            raise TooManyWaiters

    def announce_from_thread(self, job_id: UUID) -> None:
        """This process has changed the job: its waiters, here and elsewhere, hear of it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._announce, job_id)

    def _announce(self, job_id: UUID) -> None:
        self._hear([job_id.bytes])
        self._announcements.say([job_id])

    def _hear(self, ids: Sequence[bytes]) -> None:
        if not ids:  # words may have been missed
            self._read_all_at = float("-inf")
        known = self._waiters.keys() & ids if self._waiters else ()
        self._announced.update(known)
        if known or not ids:
            self._wanted.set()

    def _everybody(self) -> list[Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    async def _read_when_wanted(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(DEAF_S):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._read(self._due())
            except Exception as error:  # noqa: BLE001  # whatever one reading meets, the next must have its turn
                logger.warning("job_news.unread", error=type(error).__name__)
                self._read_all_at = float("-inf")
                await asyncio.sleep(DEAF_S)

    def _due(self) -> set[bytes]:
        """The jobs to read: those announced, and from time to time all that are waited for."""
        announced, self._announced = self._announced, set()
        if time.monotonic() - self._read_all_at < (HEARING_S if self._announcements.hears else DEAF_S):
            return announced & self._waiters.keys()
        self._read_all_at = time.monotonic()
        return set(self._waiters)

    async def _read(self, ids: set[bytes]) -> None:
        behind = [min(self._waiters[key], key=lambda waiter: waiter.version) for key in ids]
        if behind:
            seen = [(waiter.tenant_id, waiter.job_id, waiter.version) for waiter in behind]
            for row in await anyio.to_thread.run_sync(self._changed, seen, abandon_on_cancel=True):
                for waiter in self._waiters.get(row.id.bytes, ()):
                    waiter.tell(row)

    def _changed(self, seen: Sequence[tuple[UUID, UUID, int]]) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return changed_since(connection, seen)
