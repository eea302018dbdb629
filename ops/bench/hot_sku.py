"""hot_sku: reservations per second when every order wants the same SKU, beside one transaction per order.

The other side is the same rule on the same tables, from as many connections as do it fastest (two), and no job system:
it pays for no queue, no claim and no record of a job. First to last reservation, by the database's clock.
"""

from itertools import count

from domain.orders.intake import IntakeLine, IntakeOrder, accept_orders
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.one_by_one import SHARES
from ops.bench.shop import Shop
from ops.bench.spread import spread

ORDERS, QUICK_ORDERS = 10_000, 2_000
#: One by one they would take minutes.
ORDERS_ONE_BY_ONE, QUICK_ORDERS_ONE_BY_ONE = 1_500, 300
TIMES_ONE_BY_ONE = 10.0
_PER_FLUSH = 200
_SLOWEST_PER_S = 50

_RESERVED = "SELECT count(*) FROM reservations"
_MICROSECONDS = "SELECT CAST(extract(epoch FROM max(created_at) - min(created_at)) * 1e6 AS bigint) FROM reservations"


def hot_sku(run: Run) -> Figure:
    """Medians of the repeats, each side on fresh servers."""
    own, one_by_one = list[float](), list[float]()
    for repeat in range(1, run.repeats + 1):
        run.say(f"hot_sku {repeat}/{run.repeats}: longshore")
        own.append(_own(QUICK_ORDERS if run.quick else ORDERS))
        run.say(f"hot_sku {repeat}/{run.repeats}: one transaction per order")
        one_by_one.append(_one_by_one(QUICK_ORDERS_ONE_BY_ONE if run.quick else ORDERS_ONE_BY_ONE))
    ours, floor = spread(own), spread(one_by_one)
    rows: list[dict[str, Value]] = [
        {"side": "longshore", "reservations/s": ours, "setting": "relay, 2 processes x 4 threads, state of each job"},
        {
            "side": "one transaction per order",
            "reservations/s": floor,
            "setting": "2 processes, a connection each, no jobs",
        },
    ]
    goals = [
        Goal("reservations per second, times one transaction per order", ours.median / floor.median, TIMES_ONE_BY_ONE)
    ]
    return Figure("hot_sku", "Reservations per second on one SKU", rows, goals, chart="reservations/s")


def _own(orders: int) -> float:
    with fleet() as running:
        _accept(running, orders)
        running.start("relay", "relay")
        running.start_workers("inventory")
        return _rate(running, orders)


def _one_by_one(orders: int) -> float:
    with fleet() as running:
        _accept(running, orders)
        for share in map(str, range(SHARES)):
            running.start(f"share-{share}", share, module="ops.bench.one_by_one")
        return _rate(running, orders)


def _accept(running: Fleet, orders: int) -> None:
    """So many orders for one unit of one SKU wait for their reservation."""
    (sku,), numbers = Shop(running).products(1), count()
    lines = [IntakeLine(sku, 1)]
    autocommit = running.engine.execution_options(isolation_level="AUTOCOMMIT")
    for _ in range(orders // _PER_FLUSH):
        flush = [
            IntakeOrder(running.tenant_id, f"bench-{next(numbers)}", b"", "ada@example.com", "USD", lines)
            for _ in range(_PER_FLUSH)
        ]
        with autocommit.connect() as connection:
            accept_orders(connection, flush)


def _rate(running: Fleet, orders: int) -> float:
    wanted = orders // _PER_FLUSH * _PER_FLUSH
    limit_s = 30 + orders / _SLOWEST_PER_S
    running.wait(lambda: running.ask(_RESERVED) >= wanted, f"{wanted} orders were not all reserved", limit_s, 0.1)
    if (taken := running.ask("SELECT sum(reserved) FROM stock")) != wanted:
        raise BenchFailed(f"{wanted} orders for one unit each took {taken}")
    return (wanted - 1) / (running.ask(_MICROSECONDS) / 1e6)
