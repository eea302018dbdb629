"""Waking the relay after a commit: best effort, never in the way of an answer. The relay's own poll is the floor."""

import asyncio

from redis.asyncio import Redis

from domain.jobs.relay_bell import MOST_RELAY_BELLS, RELAY_BELL, Hint, relay_bell

_TIMEOUT_S = 0.5


class RelayBell:
    """`ring` returns at once; one task does the talking, and rings that come meanwhile become one."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._wanted = asyncio.Event()
        self._owed = self._closing = False
        self._hint: Hint | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> "RelayBell":
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._ring_when_wanted())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not cancelled: redis-py swallows that while it connects. Every wait of the task is bounded instead.
        self._closing = True
        self._wanted.set()
        if self._task is not None:
            await self._task
        await self._redis.aclose()

    def ring(self, hint: Hint | None = None) -> None:
        """From the event loop's thread."""
        self._hint = None if self._owed else hint  # one hint is for one ring: several rings are a busy system
        self._owed = True
        self._wanted.set()

    def ring_from_thread(self) -> None:
        """From a handler that runs in a thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.ring)

    async def answers(self) -> bool:
        """Whether Redis is there; for health, which reports it and does not depend on it."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._redis.ping()
        except Exception:  # noqa: BLE001  # one wrong byte of a reply is anything from ValueError on
            return False
        return True

    async def _ring_when_wanted(self) -> None:
        while self._owed or not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            if self._owed:
                self._owed, hint = False, self._hint
                await self._ring(hint)

    async def _ring(self, hint: Hint | None) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.lpush(RELAY_BELL, relay_bell(hint))
                pipe.ltrim(RELAY_BELL, 0, MOST_RELAY_BELLS - 1)
                await pipe.execute()
        except Exception:  # noqa: BLE001  # as above
            if not self._closing:
                await asyncio.sleep(_TIMEOUT_S)  # Redis is away: the relay finds the rows by itself
