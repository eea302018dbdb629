"""Bells on a real Valkey: a good one is heard, a bad one harms nobody, and the relay rings what is due, not more."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import dramatiq
import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from domain.ids import new_id
from domain.job_kinds import GenerateReport, MailOrderConfirmed, ReserveInventory
from domain.jobs.outbox import MOST_RELAY_BELLS, RELAY_BELL
from ops.stack import Stack
from tests.conftest import GivenServers
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    emptied_database,
    enqueued,
    eventually,
    execute,
    module_database,
    rows,
    scalar,
)
from workers import relay as relay_module
from workers.broker import ACTOR, DoorbellBroker, bell, bell_list, connect_redis, ring_relay
from workers.relay import HIGH_WATER_BELLS, Relay

QUEUE = "inventory"
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
        self.broker = DoorbellBroker(redis)
        self.broker.declare_queue(QUEUE)
        dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=self.broker)(self._hear)
        self.worker = dramatiq.Worker(self.broker, queues={QUEUE}, worker_threads=2, worker_timeout=100)
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


def ring(redis: Redis, *data: bytes) -> None:
    redis.rpush(bell_list(QUEUE), *data)


def depth(redis: Redis, queue: str = QUEUE) -> int:
    return int(redis.llen(bell_list(queue)))


def test_a_bell_is_heard_with_its_kind_and_its_job_ids(redis: Redis, listener: Listener) -> None:
    ids = [new_id(), new_id()]
    ring(redis, bell(QUEUE, KIND, ids))
    eventually(lambda: listener.heard)
    assert listener.heard == [(KIND, [job_id.hex for job_id in ids])]
    assert depth(redis) == 0


def test_a_bell_holds_ids_only() -> None:
    args = json.loads(bell(QUEUE, KIND, [UUID(int=7)]))
    assert (args["args"], args["kwargs"], args["options"]) == ([KIND, [UUID(int=7).hex]], {}, {})


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
    ring(redis, *[garbage] * 9, bell(QUEUE, KIND, [UUID(int=1)]))
    eventually(lambda: (KIND, [UUID(int=1).hex]) in listener.heard, within_s=2.5)


def test_a_list_of_another_type_is_waited_out(redis: Redis, listener: Listener) -> None:
    redis.set(bell_list(QUEUE), "no list")
    redis.delete(bell_list(QUEUE))
    ring(redis, bell(QUEUE, KIND, [UUID(int=1)]))
    eventually(lambda: listener.heard)


def test_a_consumer_takes_no_more_bells_than_it_can_run(redis: Redis) -> None:
    broker = DoorbellBroker(redis)
    ring(redis, *(bell(QUEUE, KIND, [UUID(int=number)]) for number in range(5)))
    consumer = broker.consume(QUEUE, prefetch=2, timeout=50)
    taken = [message for message in (next(consumer) for _ in range(4)) if message is not None]
    assert (len(taken), depth(redis)) == (2, 3)
    consumer.ack(taken[0])
    assert next(consumer) is not None
    assert next(consumer) is None


def test_bells_that_were_taken_but_not_run_go_back_to_the_front(redis: Redis) -> None:
    broker = DoorbellBroker(redis)
    ring(redis, *(bell(QUEUE, KIND, [UUID(int=number)]) for number in range(3)))
    consumer = broker.consume(QUEUE, prefetch=1, timeout=50)
    first = next(consumer)
    assert first is not None
    consumer.requeue([first])
    again = next(broker.consume(QUEUE, prefetch=1, timeout=50))
    assert again is not None
    assert again.args == first.args


def test_a_broker_that_is_closing_takes_nothing_more(redis: Redis) -> None:
    broker = DoorbellBroker(redis)
    ring(redis, bell(QUEUE, KIND, []))
    consumer = broker.consume(QUEUE, prefetch=1, timeout=50)
    broker.close()
    assert next(consumer) is None
    assert depth(redis) == 1


def test_dramatiq_neither_retries_nor_delays_nor_keeps_results(redis: Redis) -> None:
    broker = DoorbellBroker(redis)
    assert broker.middleware == []
    with pytest.raises(ValueError, match="outbox"):
        broker.enqueue(dramatiq.Message(QUEUE, ACTOR, (), {}, {}), delay=1)


def test_consumers_come_back_after_valkey_was_killed_and_started_again(
    stack: Stack | GivenServers, redis: Redis, listener: Listener
) -> None:
    if isinstance(stack, GivenServers):
        pytest.skip("a server that somebody else runs is not ours to kill")
    ring(redis, bell(QUEUE, KIND, [UUID(int=1)]))
    eventually(lambda: len(listener.heard) == 1)
    stack.valkey.kill()
    stack.valkey.start()
    ring(redis, bell(QUEUE, KIND, [UUID(int=2)]))
    eventually(lambda: len(listener.heard) == 2)


def test_waking_a_relay_that_is_not_there_fills_nothing_and_fails_nothing(redis: Redis) -> None:
    for _ in range(3 * MOST_RELAY_BELLS):
        ring_relay(redis)
    assert redis.llen(RELAY_BELL) == MOST_RELAY_BELLS
    with connect_redis("redis://127.0.0.1:1/0", timeout_s=0.2) as nowhere:
        ring_relay(nowhere)


# ---- the relay


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


def due(engine: Engine) -> int:
    return int(scalar(engine, "SELECT count(*) FROM outbox WHERE due_at <= now()"))


def bundles(redis: Redis, queue: str = QUEUE) -> list[tuple[str, set[str]]]:
    found: Any = redis.lrange(bell_list(queue), 0, -1)
    return [(args[0], set(args[1])) for args in (json.loads(data)["args"] for data in found)]


def hexes(ids: list[UUID]) -> set[str]:
    return {job_id.hex for job_id in ids}


def test_what_is_due_is_rung_once_in_bundles_of_its_kind(engine: Engine, redis: Redis, tenant_id: UUID) -> None:
    reservations = enqueued(engine, tenant_id, *(ReserveInventory(new_id()) for _ in range(130)))
    reports = enqueued(engine, tenant_id, GenerateReport(new_id()), GenerateReport(new_id()))
    mails = enqueued(engine, tenant_id, MailOrderConfirmed(new_id()), MailOrderConfirmed(new_id()))
    enqueued(engine, tenant_id, ReserveInventory(new_id()), due_in_s=60)
    relay = Relay(engine, redis)
    assert [relay.ring_once(), relay.ring_once()] == [134, 0]
    assert sorted(len(ids) for _, ids in bundles(redis)) == [30, 100]
    assert set.union(*(ids for _, ids in bundles(redis))) == hexes(reservations)
    assert sorted(bundles(redis, "reports")) == sorted(("report.generate", {job_id.hex}) for job_id in reports)
    assert bundles(redis, "email") == [("email.order_confirmed", hexes(mails))]


def test_a_queue_that_is_full_gets_no_more_and_the_others_do(engine: Engine, redis: Redis, tenant_id: UUID) -> None:
    ring(redis, *[bell(QUEUE, KIND, [])] * HIGH_WATER_BELLS)
    enqueued(engine, tenant_id, ReserveInventory(new_id()))
    enqueued(engine, tenant_id, GenerateReport(new_id()))
    relay = Relay(engine, redis)
    assert [relay.ring_once(), depth(redis), depth(redis, "reports")] == [1, HIGH_WATER_BELLS, 1]
    redis.lpop(bell_list(QUEUE))
    assert [relay.ring_once(), depth(redis)] == [1, HIGH_WATER_BELLS]


def test_a_relay_that_dies_between_ringing_and_its_commit_rings_twice_never_not_at_all(
    engine: Engine, redis: Redis, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueued(engine, tenant_id, ReserveInventory(new_id()))
    real = Relay._push

    def push_then_die(relay: Relay, rows_: Any) -> None:
        real(relay, rows_)
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(Relay, "_push", push_then_die)
        with pytest.raises(SystemExit):
            Relay(engine, redis).ring_once()
    assert due(engine) == 1
    assert Relay(engine, redis).ring_once() == 1
    assert bundles(redis) == [(KIND, hexes(ids))] * 2


@pytest.mark.parametrize("dies_at", ["_queues_with_room", "_push"])
def test_rows_stay_due_while_redis_is_away(
    engine: Engine, redis: Redis, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    # Given a Redis that is gone, from the start or just when the bells are pushed
    enqueued(engine, tenant_id, ReserveInventory(new_id()))
    with connect_redis("redis://127.0.0.1:1/0", timeout_s=0.2) as nowhere:
        relay = Relay(engine, nowhere)
        if dies_at == "_push":
            monkeypatch.setattr(relay, "_queues_with_room", lambda: [QUEUE])
        # Then its turn ends without an error, and nothing is lost
        with pytest.raises(RedisError):
            relay.ring_once()
        assert relay.turn() == 0
    assert due(engine) == 1
    assert rows(engine, "SELECT rings FROM outbox") == [(0,)]


def test_a_relay_outlives_the_loss_of_its_database_connection(engine: Engine, redis: Redis, tenant_id: UUID) -> None:
    enqueued(engine, tenant_id, ReserveInventory(new_id()))
    relay = Relay(engine, redis)
    execute(
        engine,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    eventually(lambda: relay.turn() == 1)
    assert depth(redis) == 1


def test_a_queue_of_a_kind_that_only_newer_code_knows_is_rung_too(
    engine: Engine, redis: Redis, tenant_id: UUID
) -> None:
    enqueued(engine, tenant_id, ReserveInventory(new_id()))
    execute(engine, "UPDATE outbox SET queue = 'newer', kind = 'newer.kind'")
    assert Relay(engine, redis).ring_once() == 1
    assert [kind for kind, _ in bundles(redis, "newer")] == ["newer.kind"]


def test_a_relay_with_nothing_to_do_wakes_by_its_bell(
    engine: Engine, redis: Redis, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a relay that would sleep for long
    monkeypatch.setattr(relay_module, "POLL_S", 1.5)
    relay = Relay(engine, redis)
    ring_relay(redis)
    # When it is rung, its turn ends, and the next one finds the row
    assert relay.turn() == 0
    assert redis.llen(RELAY_BELL) == 0
    enqueued(engine, tenant_id, ReserveInventory(new_id()))
    assert relay.turn() == 1


def test_two_relays_ring_a_row_once(engine: Engine, redis: Redis, tenant_id: UUID) -> None:
    ids = enqueued(engine, tenant_id, *(ReserveInventory(new_id()) for _ in range(50)))
    relays: list[Callable[[], int]] = [Relay(engine, redis).ring_once for _ in range(2)]
    assert sum(ring_once() for ring_once in relays) == 50
    assert set.union(*(found for _, found in bundles(redis))) == hexes(ids)
