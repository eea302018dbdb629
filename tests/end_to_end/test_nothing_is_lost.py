"""Whatever dies, every accepted order ends in exactly one terminal state, and the stock adds up."""

import os
import time
from uuid import UUID

import pytest
from redis import Redis

from tests.end_to_end.running import Running, all_promises_hold, wait_until

#: CI kills during so many orders; LONGSHORE_TEST_ORDERS=2000 is the full size.
ORDERS = int(os.environ.get("LONGSHORE_TEST_ORDERS", "150"))

PROCESSES = [
    "web",
    "relay",
    "rescuer",
    "scheduler",
    "worker-inventory",
    "worker-email",
    "worker-webhooks",
    "worker-reports",
    "postgresql",
    "valkey",
]


def decided(system: Running, order_ids: list[str]) -> bool:
    """Every one of these orders has left `accepted`, and no job of theirs is still to run."""
    ids = [UUID(order_id) for order_id in order_ids]
    try:
        open_orders = system.query("SELECT 1 FROM orders WHERE id = ANY(:ids) AND status = 'accepted' LIMIT 1", ids=ids)
        open_jobs = system.query(
            "SELECT 1 FROM jobs WHERE order_id = ANY(:ids) AND state NOT IN ('succeeded', 'dead', 'cancelled') LIMIT 1",
            ids=ids,
        )
    except Exception:  # noqa: BLE001  # PostgreSQL may be the process that was killed
        return False
    return not open_orders and not open_jobs


def check(system: Running, sku: str, order_ids: list[str]) -> None:
    assert len(set(order_ids)) == ORDERS
    wait_until(lambda: decided(system, order_ids), 90)
    ids = [UUID(order_id) for order_id in order_ids]
    stored = system.query("SELECT status, count(*) FROM orders WHERE id = ANY(:ids) GROUP BY 1", ids=ids)
    assert [tuple(row) for row in stored] == [("confirmed", ORDERS)]
    units = system.query("SELECT on_hand, reserved FROM stock WHERE sku = :sku", sku=sku)
    assert [tuple(row) for row in units] == [(2 * ORDERS, ORDERS)]
    mails = system.query(
        "SELECT count(*), count(DISTINCT order_id) FROM jobs WHERE order_id = ANY(:ids)"
        " AND kind = 'email.order_confirmed' AND state = 'succeeded'",
        ids=ids,
    )
    assert [tuple(row) for row in mails] == [(ORDERS, ORDERS)]
    all_promises_hold(system.engine)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PROCESSES)
def test_killing_any_one_process_during_orders_loses_nothing(system: Running, name: str) -> None:
    # Given a product with more stock than will be ordered
    sku = system.product(2 * ORDERS)
    before = system.pids()[name]
    # When a process is killed while orders come in
    order_ids = system.orders(sku, ORDERS, lambda: system.kill(name))
    # Then it is back, and every accepted order was reserved and mailed exactly once
    wait_until(lambda: system.pids().get(name, before) != before)
    check(system, sku, order_ids)


@pytest.mark.timeout(240)
def test_emptying_redis_during_orders_loses_nothing(system: Running) -> None:
    sku = system.product(2 * ORDERS)
    redis = Redis.from_url(system.env["REDIS_URL"])

    def flush_repeatedly() -> None:
        for _ in range(5):
            redis.flushall()
            time.sleep(0.05)  # between two bells, not a wait for anything

    order_ids = system.orders(sku, ORDERS, flush_repeatedly)
    redis.close()
    check(system, sku, order_ids)
