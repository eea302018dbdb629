"""Valkey does what it is asked and its answer is lost: nobody knows if a bell was rung or heard, and no job cares.

An answer is lost in two ways: the connection breaks (ConnectionError), or nothing comes until the time is up
(TimeoutError, which is none of the former).
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import dramatiq
import pytest
from redis import Redis

from tests.end_to_end.api_process import api_process
from tests.end_to_end.own_kinds import QUEUE
from tests.end_to_end.own_worker import Effect, all_end, each_ran_once, enqueued, own_process, own_worker
from tests.end_to_end.running import Running, all_promises_hold, stopped, wait_until
from tests.end_to_end.wrong_clock import python
from tests.integration.wire import Wire, wire_to
from workers.broker import bell_list


@pytest.fixture
def redis(system: Running) -> Iterator[Redis]:
    with Redis.from_url(system.env["REDIS_URL"]) as client:
        client.delete(bell_list(QUEUE))  # bells that other tests left for jobs that have ended
        yield client


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def bells_by_job(redis: Redis) -> Counter[UUID]:
    """How many bells lie there for each job of the tests' own queue."""
    lying = cast("list[bytes]", redis.lrange(bell_list(QUEUE), 0, -1))
    messages: list[dramatiq.Message[Any]] = [dramatiq.Message.decode(data) for data in lying]
    return Counter(UUID(word) for message in messages for word in message.args[1])


@pytest.mark.timeout(120)
def test_bells_that_were_rung_without_an_answer_are_rung_again_and_run_each_job_once(
    system: Running, tmp_path: Path, effects: Path, redis: Redis
) -> None:
    with (
        wire_to(system.env["REDIS_URL"]) as (wire, url),
        stopped(system.pids()["relay"]),
        own_process(system, tmp_path, python("ops.cli", "relay"), REDIS_URL=url) as relay,
    ):
        # Given bells that Valkey has taken, and a relay that cannot know it
        wire.lose_reply(b"own.effect")
        ids = enqueued(system, *(Effect(str(effects)) for _ in range(4)))
        # Then it rings all of them again
        wait_until(lambda: [bells_by_job(redis)[job_id] for job_id in ids] == [2] * 4)
        with own_worker(system, tmp_path):
            all_end(system, ids, "succeeded")
            # And jobs that are done before the relay has given up on the answer are not done again
            wire.hold_reply(b"own.effect")
            ids += enqueued(system, *(Effect(str(effects)) for _ in range(4)))
            all_end(system, ids, "succeeded")
            wait_until(lambda: len(relay.said("relay.broker_unreachable")) == 2)
            ids += enqueued(system, Effect(str(effects)))
            all_end(system, ids, "succeeded")
    errors = [line["error"] for line in relay.said("relay.broker_unreachable")]
    assert errors == ["ConnectionError", "TimeoutError"]
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_a_bell_that_was_popped_and_never_arrived_rings_again_and_its_job_runs_once(
    system: Running, tmp_path: Path, effects: Path, redis: Redis
) -> None:
    # Given one bell, and a worker whose first pop takes it off the list and is never answered
    ids = enqueued(system, Effect(str(effects)))
    wait_until(lambda: bells_by_job(redis)[ids[0]] == 1)
    with wire_to(system.env["REDIS_URL"]) as (wire, url):
        wire.hold_reply(b"BLPOP")
        with own_worker(system, tmp_path, REDIS_URL=url) as worker:
            # Then the same worker hears of the job again
            all_end(system, ids, "succeeded")
            assert [line["error"] for line in worker.said("broker.unreachable")] == ["TimeoutError"]
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_orders_whose_wake_ups_were_never_answered_are_accepted_and_done_once(system: Running, tmp_path: Path) -> None:
    sku, inventory = system.product(5), python("ops.cli", "worker", "--queues", "inventory")
    with (
        wire_to(system.env["REDIS_URL"]) as (api_wire, api_url),
        wire_to(system.env["REDIS_URL"]) as (worker_wire, worker_url),
        stopped(system.pids()["worker-inventory"]),
        own_process(system, tmp_path, inventory, REDIS_URL=worker_url) as worker,
        api_process(system, tmp_path, REDIS_URL=api_url) as api,
    ):
        for number, lose in enumerate((Wire.hold_reply, Wire.lose_reply), start=1):
            # Given an API and a worker whose next word to the relay is heard and not answered
            lose(api_wire, b"LPUSH")
            lose(worker_wire, b"LPUSH")
            status, _, body = api.order(sku, uuid4().hex)
            assert status == 202
            order_id = UUID(body["data"]["order"]["id"])
            wait_until(lambda: has_ended(system, order_id))  # noqa: B023  # asked at once
            # Then no job of the order had a second claim, and both go on ringing: the next round sees them
            assert has_run_once(system, order_id)
            assert api_wire.seen.wait(10)
            wait_until(lambda: len(worker.said("broker.relay_not_rung")) == number)  # noqa: B023  # asked at once
    errors = [line["error"] for line in worker.said("broker.relay_not_rung")]
    assert errors == ["TimeoutError", "ConnectionError"]
    assert system.query("SELECT on_hand, reserved FROM stock WHERE sku = :sku", sku=sku) == [(5, 2)]
    all_promises_hold(system.engine)


def has_ended(system: Running, order_id: UUID) -> bool:
    left = "SELECT 1 FROM jobs WHERE order_id = :id AND state NOT IN ('succeeded', 'dead', 'cancelled')"
    confirmed = "SELECT 1 FROM orders WHERE id = :id AND status = 'confirmed'"
    return bool(system.query(confirmed, id=order_id)) and not system.query(left, id=order_id)


def has_run_once(system: Running, order_id: UUID) -> bool:
    jobs = "SELECT kind, state, claim FROM jobs WHERE order_id = :id AND queue IN ('inventory', 'email') ORDER BY kind"
    done = [("email.order_confirmed", "succeeded", 1), ("inventory.reserve", "succeeded", 1)]
    return system.query(jobs, id=order_id) == done
