"""The Dramatiq broker of doorbells: one Redis list per queue, a bell is a kind and the job ids of a bundle.

It promises nothing and needs no upkeep: a bell that is lost, doubled, forged or garbled is harmless, because PostgreSQL
decides what may start and rings again what nobody claimed. So there are no acknowledgements, heartbeats, delays or
retries here; consumers block on the list and wake within a millisecond.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

import dramatiq
import msgspec
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import DecodeError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from domain.jobs.relay_bell import MOST_RELAY_BELLS, RELAY_BELL, Hint, relay_bell
from ops.telemetry import log

logger = log(__name__)

#: A queue with this many bells waiting gets no more, whoever rang them: it has no workers, or not enough.
HIGH_WATER_BELLS = 50

#: The one actor: every bell asks for it.
ACTOR = "run_bundle"
#: What Dramatiq takes for the one queue of this process.
EVERY_QUEUE = "bells"


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


def bells_waiting(redis: Redis, queues: Iterable[str]) -> dict[str, int]:
    """How many bells nobody has taken yet, by queue."""
    names = list(queues)
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(bell_list(name))
        return dict(zip(names, pipe.execute(), strict=True))


def bell(queue: str, kind: str, job_ids: Sequence[str]) -> bytes:
    """A doorbell as it lies in Redis: ids only, no payload, no personal data."""
    args = (kind, list(job_ids))
    message: dramatiq.Message[Any] = dramatiq.Message(queue, ACTOR, args, {}, {})
    return message.encode()


def ring_relay(redis: Redis, hint: Hint | None = None) -> None:
    """The relay wakes now instead of at its next poll: best effort. The list stays short when no relay is running."""
    try:
        if int(redis.lpush(RELAY_BELL, relay_bell(hint))) > MOST_RELAY_BELLS:
            redis.ltrim(RELAY_BELL, 0, MOST_RELAY_BELLS - 1)
    except RedisError as error:
        logger.warning("broker.relay_not_rung", error=type(error).__name__)


class DoorbellBroker(Broker):
    """Hears the bells of these queues, all through one consumer, so that no more bells are taken than threads are free.

    `middleware` is empty on purpose: claims and retries are the executor's, and Dramatiq swallows what middleware
    raises.
    """

    def __init__(self, redis: Redis, queues: Iterable[str]) -> None:
        super().__init__(middleware=[])
        self.redis, self.lists = redis, [bell_list(queue) for queue in queues]
        self.closing = False
        self.queues: dict[str, None] = {}
        self.declare_queue(EVERY_QUEUE)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1_000) -> Consumer:  # noqa: ARG002  # Dramatiq's
        return DoorbellConsumer(self, prefetch, timeout)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        if delay is not None:
            raise ValueError("delays live in the outbox, not in the broker")
        self.redis.rpush(bell_list(message.queue_name), message.encode())
        return message

    def close(self) -> None:
        self.closing = True


class HeardBell(MessageProxy):
    """A bell on its way to a thread. It goes by the name of the consumer, and knows its list."""

    def __init__(self, message: dramatiq.Message[Any], data: bytes, heard_on: bytes) -> None:
        super().__init__(message.copy(queue_name=EVERY_QUEUE))
        self.data, self.heard_on = data, heard_on


class DoorbellConsumer(Consumer):
    """Blocks on the lists. Never more than `prefetch` bells are in this process: the others are for others."""

    def __init__(self, broker: DoorbellBroker, prefetch: int, timeout_ms: int) -> None:
        self._broker, self._lists = broker, deque(broker.lists)
        self._prefetch, self._timeout_s = prefetch, timeout_ms / 1000
        self._outstanding, self._changed = 0, threading.Condition()

    def __next__(self) -> MessageProxy | None:
        if self._broker.closing:
            time.sleep(0.005)
            return None
        with self._changed:
            if not self._changed.wait_for(lambda: self._outstanding < self._prefetch, self._timeout_s):
                return None
        self._lists.rotate(1)  # BLPOP looks at the first list first
        try:
            popped = self._broker.redis.blpop(list(self._lists), timeout=self._timeout_s)
        except RedisError as error:
            logger.warning("broker.unreachable", error=type(error).__name__)
            time.sleep(0.25)
            return None
        return None if popped is None else self._read(*cast("list[bytes]", popped))

    def _read(self, heard_on: bytes, data: bytes) -> MessageProxy | None:
        try:
            message: dramatiq.Message[Any] = dramatiq.Message.decode(data)
        except (DecodeError, TypeError, msgspec.MsgspecError):
            message = dramatiq.Message("", "", (), {}, {})
        if message.actor_name != ACTOR or bell_list(message.queue_name).encode() != heard_on or not _is_bare(message):
            logger.warning("broker.garbage", list=heard_on.decode(), size=len(data))
            return None
        self._count(1)
        return HeardBell(message, data, heard_on)

    def _count(self, change: int) -> None:
        with self._changed:
            self._outstanding += change
            self._changed.notify()

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002  # Dramatiq's signature
        self._count(-1)

    def nack(self, message: MessageProxy) -> None:  # noqa: ARG002  # Dramatiq's signature
        self._count(-1)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Bells popped but not run go back to the front, so that another process hears them at once.

        Those that Redis does not take ring again.
        """
        for message in messages:
            bell = cast("HeardBell", message)
            try:
                self._broker.redis.lpush(bell.heard_on, bell.data)
            except RedisError as error:
                logger.warning("broker.bell_not_returned", error=type(error).__name__)


def _is_bare(message: dramatiq.Message[Any]) -> bool:
    # Options are orders to Dramatiq: a delayed bell would wait in this process and never be counted off again.
    return (message.kwargs, message.options) == ({}, {})
