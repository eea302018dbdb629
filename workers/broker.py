"""The Dramatiq broker of doorbells: one Redis list per queue, a bell is a kind and the job ids of a bundle.

It promises nothing and needs no upkeep: a bell that is lost, doubled, forged or garbled is harmless, because PostgreSQL
decides what may start and rings again what nobody claimed. So there are no acknowledgements, heartbeats, delays or
retries here; consumers block on the list and wake within a millisecond.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import UUID

import dramatiq
import msgspec
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import DecodeError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from domain.jobs.outbox import MOST_RELAY_BELLS, RELAY_BELL
from ops.telemetry import log

logger = log(__name__)

#: The one actor: every bell asks for it.
ACTOR = "run_bundle"


def connect_redis(url: str, *, timeout_s: float = 2.0) -> Redis:
    """A client that fails fast and never repeats a command: only the caller knows what a lost reply means."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
    )


def bell_list(queue: str) -> str:
    return f"longshore:bells:{queue}"


def bell(queue: str, kind: str, job_ids: Sequence[UUID]) -> bytes:
    """A doorbell as it lies in Redis: ids only, no payload, no personal data."""
    args = (kind, [job_id.hex for job_id in job_ids])
    message: dramatiq.Message[Any] = dramatiq.Message(queue, ACTOR, args, {}, {})
    return message.encode()


def ring_relay(redis: Redis) -> None:
    """The relay wakes now instead of at its next poll: best effort. The list stays short when no relay is running."""
    try:
        with redis.pipeline(transaction=False) as pipe:
            pipe.lpush(RELAY_BELL, b"1")
            pipe.ltrim(RELAY_BELL, 0, MOST_RELAY_BELLS - 1)
            pipe.execute()
    except RedisError as error:
        logger.warning("broker.relay_not_rung", error=type(error).__name__)


class DoorbellBroker(Broker):
    """Consumes bells. `middleware` is empty on purpose: claims and retries are the executor's, and Dramatiq swallows
    what middleware raises.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(middleware=[])
        self.redis = redis
        self.closing = False
        self.queues: dict[str, None] = {}

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1_000) -> Consumer:
        return DoorbellConsumer(self, queue_name, prefetch, timeout)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        if delay is not None:
            raise ValueError("delays live in the outbox, not in the broker")
        self.redis.rpush(bell_list(message.queue_name), message.encode())
        return message

    def close(self) -> None:
        self.closing = True


def _is_bare(message: dramatiq.Message[Any]) -> bool:
    return (message.kwargs, message.options) == ({}, {})


class DoorbellConsumer(Consumer):
    """Blocks on one queue's list. Never more than `prefetch` bells wait in this process: the others are for others."""

    def __init__(self, broker: DoorbellBroker, queue: str, prefetch: int, timeout_ms: int) -> None:
        self._broker, self._list = broker, bell_list(queue)
        self._prefetch, self._timeout_s = prefetch, timeout_ms / 1000
        self._outstanding, self._lock = 0, threading.Lock()

    def __next__(self) -> MessageProxy | None:
        if self._broker.closing or self._outstanding >= self._prefetch:
            time.sleep(0.005)
            return None
        try:
            popped = self._broker.redis.blpop([self._list], timeout=self._timeout_s)
        except RedisError as error:
            logger.warning("broker.unreachable", list=self._list, error=type(error).__name__)
            time.sleep(0.25)
            return None
        return None if popped is None else self._read(cast("list[bytes]", popped)[1])

    def _read(self, data: bytes) -> MessageProxy | None:
        try:
            message: dramatiq.Message[Any] = dramatiq.Message.decode(data)
        except (DecodeError, TypeError, msgspec.MsgspecError):
            message = dramatiq.Message("", "", (), {}, {})
        # Options are orders to Dramatiq: a delayed bell would wait in this process and never be counted off again.
        if message.actor_name != ACTOR or bell_list(message.queue_name) != self._list or not _is_bare(message):
            logger.warning("broker.garbage", list=self._list, size=len(data))
            return None
        self._count(1)
        return MessageProxy(message)

    def _count(self, change: int) -> None:
        with self._lock:
            self._outstanding += change

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002  # Dramatiq's signature
        self._count(-1)

    def nack(self, message: MessageProxy) -> None:  # noqa: ARG002  # Dramatiq's signature
        self._count(-1)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Bells popped but not run go back to the front, so that another process hears them at once."""
        for message in messages:
            self._broker.redis.lpush(self._list, message.encode())
