"""Stock: never oversold, an order whole or not at all, and the ledger says how it came about, whatever runs at once."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

import workers.handlers  # noqa: F401  # registers them
from domain.database import connect
from domain.errors import InsufficientStock
from domain.ids import new_id
from domain.inventory import reservations
from domain.inventory.stock import Movement, adjust_stock, move_stock
from domain.job_kinds import ReleaseInventory, ReserveInventory, ShipInventory
from domain.jobs.attempts import ClaimedJob
from domain.jobs.kind import find_kind
from domain.jobs.rescue import mend_unheld
from domain.orders.intake import AcceptedOrder
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    accepted,
    an_order,
    at_once,
    claimed,
    emptied_database,
    enqueued,
    execute,
    module_database,
    resources,
    row,
    rows,
    scalar,
    the_job,
)
from workers.context import BundleContext, BundleJob
from workers.registry import HANDLERS

Payload = type[ReserveInventory] | type[ReleaseInventory] | type[ShipInventory]


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    tenant_id = a_tenant(engine)
    for sku in ("LAMP", "DESK"):
        a_product(engine, tenant_id, sku, units=10)
    return tenant_id


@pytest.fixture(autouse=True)
def ledger_agrees(engine: Engine) -> Iterator[None]:
    """Whatever a test does, stock is never oversold and the ledger sums to it."""
    yield
    assert_sound(engine)


def assert_sound(engine: Engine) -> None:
    sums = rows(
        engine,
        "SELECT sku, on_hand, reserved, coalesce(sum(on_hand_delta), 0), coalesce(sum(reserved_delta), 0), "
        "(SELECT coalesce(sum(quantity), 0) FROM reservations AS r "
        "  WHERE r.tenant_id = stock.tenant_id AND r.sku = stock.sku AND state = 'held') "
        "FROM stock LEFT JOIN stock_ledger USING (tenant_id, sku) GROUP BY stock.tenant_id, sku",
    )
    for sku, on_hand, reserved, ledger_on_hand, ledger_reserved, held in sums:
        assert 0 <= reserved <= on_hand, sku
        assert (on_hand, reserved) == (ledger_on_hand, ledger_reserved), sku
        assert reserved == held, sku


def do(engine: Engine, jobs: Sequence[ClaimedJob]) -> None:
    """The handler of these claimed jobs runs on them as one bundle."""
    for name in {job.kind for job in jobs}:
        bundle = [BundleJob(job, find_kind(name).decode(job.args)) for job in jobs if job.kind == name]
        HANDLERS[name].run(BundleContext(bundle, resources(engine), time.monotonic() + 30))


def reserved(engine: Engine, orders: Sequence[AcceptedOrder]) -> None:
    do(engine, claimed(engine, [order.job_id for order in orders]))


def ask(engine: Engine, tenant_id: UUID, payload: Payload, order: AcceptedOrder) -> ClaimedJob:
    (job,) = claimed(engine, enqueued(engine, tenant_id, payload(order.order_id), order_id=order.order_id))
    return job


def taken_in(engine: Engine, tenant_id: UUID, *wanted: Mapping[str, int]) -> list[AcceptedOrder]:
    return accepted(engine, [an_order(tenant_id, units) for units in wanted])


def stock(engine: Engine, sku: str = "LAMP") -> tuple[int, int]:
    on_hand, held = row(engine, "SELECT on_hand, reserved FROM stock WHERE sku = :sku", sku=sku)
    return on_hand, held


def statuses(engine: Engine) -> list[str]:
    return [status for (status,) in rows(engine, "SELECT status FROM orders ORDER BY id")]


def events(engine: Engine) -> list[tuple[str, int]]:
    return [tuple(found) for found in rows(engine, "SELECT type, sequence FROM events ORDER BY id")]


def test_fifty_orders_at_once_for_ten_units_are_ten_confirmed_and_forty_rejected(
    engine: Engine, database_url: str, tenant_id: UUID
) -> None:
    orders = taken_in(engine, tenant_id, *[{"LAMP": 1}] * 50)
    crowd = connect(database_url, process="test", pool_size=16)
    shares = [orders[start::8] for start in range(8)]
    outcomes = at_once(*[partial(reserved, crowd, share) for share in shares])
    crowd.dispose()
    assert outcomes == [None] * 8
    assert sorted(statuses(engine)) == ["confirmed"] * 10 + ["rejected"] * 40
    assert stock(engine) == (10, 10)
    assert scalar(engine, "SELECT count(*) FROM jobs WHERE kind = 'inventory.reserve' AND state = 'succeeded'") == 50


def test_within_a_bundle_the_first_to_come_are_the_first_served(engine: Engine, tenant_id: UUID) -> None:
    reserved(engine, taken_in(engine, tenant_id, *[{"LAMP": 3}] * 5, {"LAMP": 1}))
    assert statuses(engine) == ["confirmed"] * 3 + ["rejected"] * 2 + ["confirmed"]


def test_orders_for_the_same_goods_in_opposite_order_do_not_deadlock(engine: Engine, tenant_id: UUID) -> None:
    for _ in range(4):
        orders = taken_in(engine, tenant_id, *[{"LAMP": 1, "DESK": 1}, {"DESK": 1, "LAMP": 1}] * 4)
        outcomes = at_once(lambda: reserved(engine, orders[::2]), lambda: reserved(engine, orders[1::2]))  # noqa: B023
        assert outcomes == [None, None]


def test_a_confirmed_order_holds_its_stock_and_tells_the_world(engine: Engine, tenant_id: UUID) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2, "DESK": 1})
    reserved(engine, [order])
    assert (stock(engine), stock(engine, "DESK")) == ((10, 2), (10, 1))
    assert events(engine) == [("order.created", 1), ("order.confirmed", 2)]
    data = scalar(engine, "SELECT data FROM events WHERE type = 'order.confirmed'")
    assert (data["total"], data["currency"], len(data["lines"])) == (59.97, "EUR", 2)
    assert the_job(engine, order.job_id).result == {"code": "ORDER_CONFIRMED"}
    ledger = rows(engine, "SELECT sku, reserved_delta, job_id FROM stock_ledger WHERE reason = 'reserved' ORDER BY sku")
    assert ledger == [("DESK", 1, order.job_id), ("LAMP", 2, order.job_id)]


def test_an_order_that_cannot_be_served_whole_takes_nothing(engine: Engine, tenant_id: UUID) -> None:
    orders = taken_in(engine, tenant_id, {"LAMP": 2, "DESK": 11}, {"DESK": 11, "LAMP": 2}, {"LAMP": 10})
    reserved(engine, orders)
    assert statuses(engine) == ["rejected", "rejected", "confirmed"]
    assert (stock(engine), stock(engine, "DESK")) == ((10, 10), (10, 0))
    assert scalar(engine, "SELECT count(*) FROM reservations") == 1
    assert the_job(engine, orders[0].job_id).result == {"code": "INSUFFICIENT_STOCK", "sku": "DESK"}
    assert row(engine, "SELECT reason, version FROM orders WHERE id = :id", id=orders[0].order_id) == (
        "INSUFFICIENT_STOCK",
        2,
    )


@pytest.mark.parametrize(
    ("payload", "status", "after", "event"),
    [
        (ReleaseInventory, "cancelled", (10, 0), "order.cancelled"),
        (ShipInventory, "completed", (8, 0), "order.completed"),
    ],
)
def test_release_and_shipment_end_the_hold_once(
    engine: Engine, tenant_id: UUID, payload: Payload, status: str, after: tuple[int, int], event: str
) -> None:
    # Given a confirmed order
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    reserved(engine, [order])
    # When it is asked for twice, and then for the opposite
    opposite = ShipInventory if payload is ReleaseInventory else ReleaseInventory
    for asked in (payload, payload, opposite):
        do(engine, [ask(engine, tenant_id, asked, order)])
    # Then it happened once, and nothing after it
    assert (statuses(engine), stock(engine)) == ([status], after)
    assert events(engine) == [("order.created", 1), ("order.confirmed", 2), (event, 3)]
    assert scalar(engine, "SELECT count(*) FROM stock_ledger WHERE reason IN ('released', 'shipped')") == 1


def test_a_cancel_that_overtakes_the_reservation_waits_for_it(engine: Engine, tenant_id: UUID) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    cancel = ask(engine, tenant_id, ReleaseInventory, order)
    do(engine, [cancel])
    waiting = the_job(engine, cancel.id)
    assert (waiting.state, waiting.attempt, statuses(engine)) == ("queued", 0, ["accepted"])

    reserved(engine, [order])
    execute(engine, "UPDATE outbox SET due_at = now() - interval '1 second'")
    do(engine, claimed(engine, [cancel.id]))
    assert (statuses(engine), stock(engine)) == (["cancelled"], (10, 0))


def test_a_rejected_order_has_nothing_to_release(engine: Engine, tenant_id: UUID) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 11})
    reserved(engine, [order])
    cancel = ask(engine, tenant_id, ReleaseInventory, order)
    do(engine, [cancel])
    assert the_job(engine, cancel.id).result == {"code": "ORDER_REJECTED"}
    assert (statuses(engine), stock(engine)) == (["rejected"], (10, 0))


@pytest.mark.parametrize("payload", [ReserveInventory, ReleaseInventory, ShipInventory])
def test_a_job_moves_no_order_of_another_tenant_also_beside_a_job_of_that_one(
    engine: Engine, tenant_id: UUID, payload: Payload
) -> None:
    theirs, ours = taken_in(engine, tenant_id, {"LAMP": 1}, {"LAMP": 2})
    stranger = ask(engine, a_tenant(engine, "umbrella"), payload, theirs)
    do(engine, [stranger, *claimed(engine, [ours.job_id])])
    assert the_job(engine, stranger.id).state == "dead"
    assert (statuses(engine), stock(engine)) == (["accepted", "confirmed"], (10, 2))


def test_a_job_that_names_the_order_of_its_mate_under_another_tenant_dies_by_itself_and_its_mate_succeeds(
    engine: Engine, tenant_id: UUID
) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    (own,) = claimed(engine, [order.job_id])
    stranger = ask(engine, a_tenant(engine, "umbrella"), ReserveInventory, order)
    # Given that they travel in one bundle, nothing of it is settled, whoever is the last in it
    for bundle in ([own, stranger], [stranger, own]):
        with pytest.raises(ValueError, match="two tenants"):
            do(engine, bundle)
    # When it is split
    for job in (stranger, own):
        do(engine, [job])
    # Then each has what it deserves
    assert [the_job(engine, job.id).state for job in (stranger, own)] == ["dead", "succeeded"]
    assert (statuses(engine), stock(engine)) == (["confirmed"], (10, 2))


def test_a_reservation_that_runs_twice_reserves_once(engine: Engine, tenant_id: UUID) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    job_of = {order.order_id: order.job_id}
    for _ in range(2):
        with engine.begin() as tx:
            assert reservations.reserve(tx, job_of, {order.order_id: tenant_id}, {}) == {
                order.order_id: {"code": "ORDER_CONFIRMED"}
            }
    assert stock(engine) == (10, 2)
    assert len(events(engine)) == 2


def test_a_reservation_that_two_workers_run_at_once_reserves_once(engine: Engine, tenant_id: UUID) -> None:
    # Given a worker that stalled past its lease, and its successor
    orders = taken_in(engine, tenant_id, *[{"LAMP": 1}] * 4)
    stale = claimed(engine, [order.job_id for order in orders])
    execute(engine, "UPDATE jobs SET state = 'queued' WHERE kind = 'inventory.reserve'")
    with engine.begin() as tx:
        assert mend_unheld(tx).offered == 4
    fresh = claimed(engine, [order.job_id for order in orders])
    # When both run
    assert at_once(lambda: do(engine, stale), lambda: do(engine, fresh)) == [None, None]
    # Then the successor alone has done it
    assert stock(engine) == (10, 4)
    assert scalar(engine, "SELECT count(*) FROM attempts WHERE claim = 2 AND outcome = 'succeeded'") == 4
    assert scalar(engine, "SELECT count(*) FROM attempts") == 4


def test_the_replay_of_a_failed_order_confirms_it_and_tells_of_its_creation(engine: Engine, tenant_id: UUID) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    execute(engine, "UPDATE orders SET status = 'failed', version = 2")
    reserved(engine, [order])
    assert statuses(engine) == ["confirmed"]
    assert events(engine) == [("order.created", 1), ("order.confirmed", 3)]


@pytest.mark.parametrize("step", ["_take", "_decide", "publish"])
def test_an_injected_failure_between_steps_leaves_nothing(
    engine: Engine, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (order,) = taken_in(engine, tenant_id, {"LAMP": 2})
    real = getattr(reservations, step)

    def fail_after(*args: object) -> None:
        real(*args)
        raise ConnectionError(step)

    monkeypatch.setattr(reservations, step, fail_after)
    with pytest.raises(ConnectionError, match=step):
        reserved(engine, [order])
    assert (statuses(engine), stock(engine), events(engine)) == (["accepted"], (10, 0), [])
    assert rows(engine, "SELECT FROM reservations") == []
    assert the_job(engine, order.job_id).state == "running"


def test_stock_can_be_adjusted_but_never_below_what_is_reserved(engine: Engine, tenant_id: UUID) -> None:
    reserved(engine, taken_in(engine, tenant_id, {"LAMP": 4}))
    with engine.begin() as tx:
        assert adjust_stock(tx, tenant_id, "LAMP", -6) == {"onHand": 4, "reserved": 4, "available": 0}
    with pytest.raises(InsufficientStock, match="0 units free"), engine.begin() as tx:
        adjust_stock(tx, tenant_id, "LAMP", -1)


def test_the_database_refuses_what_no_code_should_ask_for(engine: Engine, tenant_id: UUID) -> None:
    for on_hand, held in ((0, 11), (-11, 0), (0, -1)):
        with pytest.raises(IntegrityError, match="never_oversold"), engine.begin() as tx:
            move_stock(tx, [Movement(new_id(), tenant_id, "LAMP", on_hand, held, "adjusted")])


order_number = st.integers(0, 30)
histories = st.lists(
    st.tuples(st.just("order"), st.integers(1, 6))
    | st.tuples(st.sampled_from(["reserve", "release", "ship", "redeliver"]), order_number)
    | st.tuples(st.just("adjust"), st.integers(-6, 6)),
    min_size=3,
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories)
def test_whatever_happens_in_whatever_order_the_ledger_agrees(engine: Engine, history: list[tuple[str, int]]) -> None:
    tenant_id = a_tenant(engine, str(new_id()))
    a_product(engine, tenant_id, units=10)
    orders: list[AcceptedOrder] = []
    acts = {"reserve": reservations.reserve, "redeliver": reservations.reserve}
    acts |= {"release": reservations.release, "ship": reservations.ship}
    for verb, number in history:
        if verb == "order":
            orders += taken_in(engine, tenant_id, {"LAMP": number})
        elif verb == "adjust":
            _adjust(engine, tenant_id, number)
        elif orders:
            order = orders[number % len(orders)]
            with engine.begin() as tx:
                acts[verb](tx, {order.order_id: order.job_id}, {order.order_id: tenant_id}, {})
        assert_sound(engine)


def _adjust(engine: Engine, tenant_id: UUID, delta: int) -> None:
    free = scalar(engine, "SELECT on_hand - reserved FROM stock WHERE tenant_id = :id", id=tenant_id)
    try:
        with engine.begin() as tx:
            adjust_stock(tx, tenant_id, "LAMP", delta)
    except InsufficientStock:
        assert free + delta < 0
