"""reads: how long callers wait for an order, a job and their lists, with a thousand orders and with a million.

Two whole systems stand side by side, and are asked in turn over one connection each, so that a noisy moment hits both.
All orders are one tenant's: the longest list that there can be.
"""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle

from sqlalchemy import text

from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.shop import Shop
from ops.bench.spread import Spread, percentile, spread

FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 100_000
MOST_GROWTH = 1.5
#: Requests of each sort in one turn of one side.
_PER_TURN = 50
_TURNS, _QUICK_TURNS = 40, 10
_SAMPLE = 1_000
_PER_STATEMENT = 50_000

Ask = Callable[[], str]

# An order as it is when all is done: a line, its root job, the mail that followed; spread over an hour.
_ORDERS = """
    WITH made AS (
        SELECT uuidv7(age) AS id, uuidv7(age) AS root, uuidv7(age) AS mail, n, now() + age AS at
          FROM (SELECT n, make_interval(secs => -3600.0 * n / 1000000) AS age
                  FROM generate_series(CAST(:first AS int), :last) AS n) AS numbers),
    lines AS (
        INSERT INTO order_lines (tenant_id, order_id, sku, quantity, unit_price, name)
        SELECT :tenant_id, id, :sku, 1, 950, 'Thing' FROM made),
    jobs_made AS (
        INSERT INTO jobs (id, tenant_id, kind, queue, state, args, max_attempts, order_id, attempt, claim, created_at,
                          due_at, started_at, finished_at)
        SELECT job.id, :tenant_id, kind, queue, 'succeeded', '{}', 3, made.id, 1, 1, at, at, at, at
          FROM made CROSS JOIN LATERAL (VALUES (root, 'inventory.reserve', 'inventory'),
                                               (mail, 'email.order_confirmed', 'email')) AS job(id, kind, queue))
    INSERT INTO orders (id, tenant_id, idempotency_key, request_hash, customer_email, currency, total, status,
                        root_job_id, created_at)
    SELECT id, :tenant_id, 'bench-' || n, '', 'ada@example.com', 'USD', 950, 'confirmed', root, at FROM made
"""


def reads(run: Run) -> Figure:
    """p95 of each route: the median over the turns."""
    most = QUICK_MANY if run.quick else MANY
    with _shop_with(FEW, run) as few, _shop_with(most, run) as many:
        found: dict[tuple[int, str], list[list[float]]] = {}
        for turn in range(-1, _QUICK_TURNS if run.quick else _TURNS):  # the first is for the caches
            for size, shop in ((FEW, few), (most, many)):
                for route, taken_ms in shop.ask_in_turn().items():
                    if turn >= 0:
                        found.setdefault((size, route), []).append(taken_ms)
    routes = list(dict.fromkeys(route for _, route in found))
    rows: list[dict[str, Value]] = [
        {
            "route": route,
            "orders": float(size),
            "p50 ms": _of(found[size, route], 50),
            "p95 ms": _of(found[size, route], 95),
        }
        for route in routes
        for size in (FEW, most)
    ]
    goals = [
        Goal(
            f"p95 of {route}, {most:,} orders over {FEW:,}",
            _of(found[most, route], 95).median / _of(found[FEW, route], 95).median,
            MOST_GROWTH,
            at_most=True,
        )
        for route in routes
    ]
    return Figure("reads", "Reads as orders grow, from request to answer", rows, goals)


class _Reader:
    """One connection to one API, and what there is to be asked for."""

    def __init__(self, running: Fleet, shop: Shop, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
        self._headers = {"X-API-Key": key}
        sample = text("SELECT id, root_job_id FROM orders ORDER BY md5(CAST(id AS text)) LIMIT :most")
        with running.engine.connect() as connection:
            found = connection.execute(sample, {"most": _SAMPLE}).all()
        orders, jobs = cycle(row.id for row in found), cycle(row.root_job_id for row in found)
        self._asks: Mapping[str, Ask] = {
            "GET /orders/{id}": lambda: f"/api/v1/orders/{next(orders)}",
            "GET /jobs/{id}": lambda: f"/api/v1/jobs/{next(jobs)}",
            "GET /orders": lambda: "/api/v1/orders?limit=50",
            "GET /jobs": lambda: "/api/v1/jobs?limit=50",
        }

    def ask_in_turn(self) -> dict[str, list[float]]:
        """Milliseconds of each request, by route."""
        return {route: [self._ask(ask()) for _ in range(_PER_TURN)] for route, ask in self._asks.items()}

    def _ask(self, path: str) -> float:
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        taken_ms = (time.perf_counter() - started) * 1e3
        if response.status != 200:
            raise BenchFailed(f"GET {path} was answered {response.status}: {body[:200]!r}")
        return taken_ms

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _shop_with(orders: int, run: Run) -> Iterator[_Reader]:
    run.say(f"reads: {orders:,} orders are made")
    with fleet() as running:
        shop = Shop(running)
        (sku,) = shop.products(1)
        _fill(running, sku, orders)
        shop.open()
        reader = _Reader(running, shop, shop.api_key)
        try:
            yield reader
        finally:
            reader.close()
            shop.close()


def _fill(running: Fleet, sku: str, orders: int) -> None:
    for first in range(1, orders + 1, _PER_STATEMENT):
        last = min(orders, first + _PER_STATEMENT - 1)
        given = {"first": first, "last": last, "tenant_id": running.tenant_id, "sku": sku}
        with running.engine.begin() as tx:
            tx.execute(text("SET LOCAL session_replication_role = 'replica'"))  # no look-up for each foreign key
            tx.execute(text(_ORDERS), given)
    with running.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) orders, order_lines, jobs")  # as autovacuum would
        connection.exec_driver_sql("CHECKPOINT")


def _of(turns: list[list[float]], percent: float) -> Spread:
    return spread([percentile(turn, percent) for turn in turns])
