"""Bells on a real Valkey: a good one is heard, on whichever queue, and a bad one harms nobody."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import dramatiq
import pytest
from dramatiq.broker import Consumer
from redis import Redis

from domain.ids import new_id
from domain.jobs.relay_bell import MOST_RELAY_BELLS, RELAY_BELL
from ops.stack import Stack
from tests.conftest import GivenServers
from tests.integration.builders import eventually
from workers.broker import ACTOR, EVERY_QUEUE, DoorbellBroker, bell, bell_list, bells_waiting, connect_redis, ring_relay

QUEUE, OTHER = "inventory", "email"
KIND = "inventory.reserve"

Heard = list[tuple[str, list[str]]]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect_redis(redis_url) as client:
        yield client


class Listener:
    """A worker's consumers and threads; what they hear is noted instead of run."""

    def __init__(self, redis: Redis) -> None:
        self.heard: Heard = []
        self.broker = DoorbellBroker(redis, [QUEUE, OTHER])
        dramatiq.actor(actor_name=ACTOR, queue_name=EVERY_QUEUE, broker=self.broker)(self._hear)
        self.worker = dramatiq.Worker(self.broker, worker_threads=2, worker_timeout=100)
        self.worker.queue_prefetch = 2
        self.worker.start()

    def _hear(self, kind: str, ids: list[str]) -> None:
        if kind == "raises":
            raise LookupError
        self.heard.append((kind, ids))

    def stop(self) -> None:
        self.broker.close()
        self.worker.stop(timeout=10_000)


@pytest.fixture
def listener(redis: Redis) -> Iterator[Listener]:
    listener = Listener(redis)
    yield listener
    listener.stop()


def forged(**changes: Any) -> bytes:
    message: dict[str, Any] = {
        "queue_name": QUEUE,
        "actor_name": ACTOR,
        "args": [KIND, []],
        "kwargs": {},
        "options": {},
    }
    message |= {"message_id": "x", "message_timestamp": 1}
    return json.dumps(message | changes).encode()


def a_bell(number: int, queue: str = QUEUE) -> bytes:
    return bell(queue, KIND, [str(UUID(int=number))])


def ring(redis: Redis, *data: bytes, queue: str = QUEUE) -> None:
    redis.rpush(bell_list(queue), *data)


def depth(redis: Redis, queue: str = QUEUE) -> int:
    return bells_waiting(redis, [queue])[queue]


def heard_by(consumer: Consumer) -> Any:
    """Which bell the consumer takes; None when it takes none."""
    return None if (message := next(consumer)) is None else UUID(message.args[1][0]).int


def test_a_bell_is_heard_with_its_kind_and_its_job_ids(redis: Redis, listener: Listener) -> None:
    ids = [str(new_id()), str(new_id())]
    ring(redis, bell(QUEUE, KIND, ids))
    eventually(lambda: listener.heard)
    assert listener.heard == [(KIND, ids)]
    assert depth(redis) == 0


def test_a_bell_holds_ids_only() -> None:
    args = json.loads(bell(QUEUE, KIND, ["7"]))
    assert (args["args"], args["kwargs"], args["options"]) == ([KIND, ["7"]], {}, {})


def test_the_bells_of_every_queue_of_a_worker_are_heard_and_of_no_other(redis: Redis, listener: Listener) -> None:
    for queue in ("reports", QUEUE, OTHER):
        ring(redis, bell(queue, queue, []), queue=queue)
    eventually(lambda: len(listener.heard) == 2)
    assert sorted(kind for kind, _ in listener.heard) == [OTHER, QUEUE]
    assert depth(redis, "reports") == 1


def test_no_queue_waits_behind_the_whole_of_another(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [QUEUE, OTHER])
    ring(redis, *(a_bell(number) for number in range(9)))
    ring(redis, a_bell(100, OTHER), queue=OTHER)
    consumer = broker.consume(EVERY_QUEUE, prefetch=9, timeout=50)
    assert 100 in [heard_by(consumer) for _ in range(2)]


GARBAGE = {
    "empty": b"",
    "bytes": b"\xff\xfe\x00\x80",
    "no object": b"[1, 2]",
    "null": b"null",
    "half": forged()[:-9],
    "deep": b"[" * 100_000,
    "other actor": forged(actor_name="os.system"),
    "other queue": forged(queue_name="reports"),
    "fields missing": b'{"queue_name": "inventory"}',
    "fields too many": forged(surprise=1),
    "no arguments": forged(args=[]),
    "too many arguments": forged(args=[KIND, [], 3]),
    "number for arguments": forged(args=3),
    "list for keywords": forged(kwargs=[1]),
    "list for options": forged(options=[1]),
    "null for options": forged(options=None, kwargs=None),
    "delayed": forged(options={"eta": 99_999_999_999_999}),
    "piped": forged(options={"pipe_target": {"queue_name": "x"}}),
    "raises": forged(args=["raises", []]),
    "numbers": forged(message_id=7, message_timestamp="soon"),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_skipped_and_later_bells_are_heard_at_once(redis: Redis, listener: Listener, garbage: bytes) -> None:
    # More of it than a consumer takes at a time, or one that never lets go of a bad bell would pass
    ring(redis, *[garbage] * 9, a_bell(1))
    eventually(lambda: (KIND, [str(UUID(int=1))]) in listener.heard, within_s=2.5)


def test_a_list_of_another_type_is_waited_out(redis: Redis, listener: Listener) -> None:
    redis.set(bell_list(QUEUE), "no list")
    redis.delete(bell_list(QUEUE))
    ring(redis, a_bell(1))
    eventually(lambda: listener.heard)


def test_a_consumer_takes_no_more_bells_than_it_can_run(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [QUEUE, OTHER])
    ring(redis, *(a_bell(number) for number in range(5)))
    ring(redis, *(a_bell(number, OTHER) for number in range(5)), queue=OTHER)
    consumer = broker.consume(EVERY_QUEUE, prefetch=2, timeout=50)
    taken = [message for message in (next(consumer) for _ in range(4)) if message is not None]
    assert (len(taken), depth(redis) + depth(redis, OTHER)) == (2, 8)
    consumer.ack(taken[0])
    assert next(consumer) is not None
    assert next(consumer) is None


def test_bells_that_were_taken_but_not_run_go_back_to_the_front_of_their_queue(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [OTHER, QUEUE])
    ring(redis, *(a_bell(number) for number in range(3)))
    ring(redis, a_bell(7, OTHER), queue=OTHER)
    consumer = broker.consume(EVERY_QUEUE, prefetch=2, timeout=50)
    taken = [message for message in (next(consumer), next(consumer)) if message is not None]
    assert (depth(redis), depth(redis, OTHER)) == (2, 0)
    consumer.requeue(taken)
    assert (depth(redis), depth(redis, OTHER)) == (3, 1)
    assert heard_by(DoorbellBroker(redis, [QUEUE]).consume(EVERY_QUEUE, prefetch=1, timeout=50)) == 0
    assert heard_by(DoorbellBroker(redis, [OTHER]).consume(EVERY_QUEUE, prefetch=1, timeout=50)) == 7


def test_bells_that_cannot_be_returned_keep_nobody_from_leaving(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [QUEUE])
    ring(redis, a_bell(1))
    consumer = broker.consume(EVERY_QUEUE, prefetch=1, timeout=50)
    taken = [message for message in [next(consumer)] if message is not None]
    broker.redis = connect_redis("redis://127.0.0.1:1/0")
    consumer.requeue(taken)
    assert (len(taken), depth(redis)) == (1, 0)


def test_a_broker_that_is_closing_takes_nothing_more(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [QUEUE])
    ring(redis, bell(QUEUE, KIND, []))
    consumer = broker.consume(EVERY_QUEUE, prefetch=1, timeout=50)
    broker.close()
    assert next(consumer) is None
    assert depth(redis) == 1


def test_dramatiq_neither_retries_nor_delays_nor_keeps_results(redis: Redis) -> None:
    broker = DoorbellBroker(redis, [QUEUE])
    assert broker.middleware == []
    with pytest.raises(ValueError, match="outbox"):
        broker.enqueue(dramatiq.Message(QUEUE, ACTOR, (), {}, {}), delay=1)


def test_consumers_come_back_after_valkey_was_killed_and_started_again(
    stack: Stack | GivenServers, redis: Redis, listener: Listener
) -> None:
    if isinstance(stack, GivenServers):
        pytest.skip("a server that somebody else runs is not ours to kill")
    ring(redis, a_bell(1))
    eventually(lambda: len(listener.heard) == 1)
    stack.valkey.kill()
    stack.valkey.start()
    ring(redis, a_bell(2))
    eventually(lambda: len(listener.heard) == 2)


def test_waking_a_relay_that_is_not_there_fills_nothing_and_fails_nothing(redis: Redis) -> None:
    for _ in range(3 * MOST_RELAY_BELLS):
        ring_relay(redis)
    assert redis.llen(RELAY_BELL) == MOST_RELAY_BELLS
    with connect_redis("redis://127.0.0.1:1/0", timeout_s=0.2) as nowhere:
        ring_relay(nowhere)
