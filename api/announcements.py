"""Word over Redis that jobs have changed: one subscription per process, renewed with back-off when it breaks.

Nothing rests on it. While it is down, `hears` is False and the rows are read more often instead.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from domain.jobs.announcements import CHANNEL, pack, unpack
from ops.telemetry import log

logger = log(__name__)

_TIMEOUT_S = 0.5
_LONGEST_PAUSE_S = 8.0
#: A subscription that is silent for so long is asked whether it is still there, and given up if it does not answer.
_SILENCE_S = 5.0


class Announcements:
    """An async context. `heard` gets the ids in each word, and none at all when words may have been missed."""

    def __init__(self, redis_url: str, heard: Callable[[Sequence[bytes]], None]) -> None:
        # No retries: what a broken connection missed is gone, and `heard` has to know.
        self._redis = Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._heard = heard
        self.hears = False
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Announcements":
        self._task = asyncio.create_task(self._keep_listening())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not cancelled: redis-py swallows that while it connects. Every wait of the task is bounded instead.
        self._closing.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(*self._said)
        await self._redis.aclose()

    def say(self, job_ids: Sequence[UUID]) -> None:
        """The other processes hear of these jobs, if Redis is there. Returns at once; from the event loop's thread."""
        if self.hears:
            task = asyncio.create_task(self._say(pack(job_ids)))
            self._said.add(task)
            task.add_done_callback(self._said.discard)

    async def _say(self, word: bytes) -> None:
        with suppress(Exception):
            await self._redis.publish(CHANNEL, word)

    async def _keep_listening(self) -> None:
        pause_s = _TIMEOUT_S
        while not self._closing.is_set():
            pubsub = self._redis.pubsub()
            try:
                await pubsub.subscribe(CHANNEL)
                await self._listen(pubsub)
            except Exception as error:  # noqa: BLE001  # one wrong byte of a reply is anything from ValueError on
                if self.hears:  # one line per outage
                    logger.warning("announcements.unheard", error=type(error).__name__)
                    pause_s = _TIMEOUT_S
                self.hears = False
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            finally:
                with suppress(Exception):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis leaves it unannotated

    async def _listen(self, pubsub: PubSub) -> None:
        heard_at = asked_at = time.monotonic()
        while not self._closing.is_set():
            message = await pubsub.get_message(timeout=_TIMEOUT_S)
            now = time.monotonic()
            if message is not None:
                heard_at = now
                self._take(message["type"], message["data"])
            elif now - heard_at > 2 * _SILENCE_S:
                raise TimeoutError
            elif now - max(asked_at, heard_at) > _SILENCE_S:
                asked_at = now
                await pubsub.ping()

    def _take(self, kind: str, data: bytes) -> None:
        if kind == "subscribe":
            self.hears = True
            self._heard([])
        elif not self.hears or kind not in ("message", "pong"):
            raise ValueError("no word of a subscription")
        elif kind == "message" and (ids := unpack(data)):
            self._heard(ids)
