"""How PostgreSQL runs the statements that must stay fast: `python -m ops.explain > docs/operations/explain.md`.

The statements are caught while the domain runs them, on a throw-away server with many rows, so the page cannot drift.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine, event, text

from domain.catalogue.products import get_product, list_products
from domain.database import connect
from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob, start_if_due
from domain.jobs.dead_letters import DeadLetterFilter, find_dead_letters
from domain.jobs.due import due_rows, new_flows
from domain.jobs.finish import finish_if_held, plain_finish_of
from domain.jobs.queries import JobFilter, get_job, list_jobs
from domain.orders.intake import IntakeLine, IntakeOrder, accept_orders
from domain.orders.queries import get_order, list_orders
from domain.stretch import Stretch
from domain.tenants.tenants import ensure_tenant
from domain.webhooks.endpoints import list_endpoints
from ops.migrate import upgrade
from ops.stack import Stack

ROWS = 100_000
TENANTS = 10
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Case(msgspec.Struct, frozen=True):
    """One statement: what it is for, and how the domain comes to run it for a tenant."""

    title: str
    run: Callable[[Connection, UUID], object]


def _read_heads(tx: Connection, _tenant_id: UUID) -> object:
    flows = new_flows(tx, [], 64)
    return due_rows(tx, flows, [_EVER] * len(flows), [100] * len(flows))


def _claim(tx: Connection, _tenant_id: UUID) -> list[ClaimedJob]:
    ids = tx.execute(text("SELECT job_id FROM outbox ORDER BY job_id LIMIT 100")).scalars().all()
    return start_if_due(tx, ids, new_id())


def _finish(tx: Connection, tenant_id: UUID) -> object:
    return finish_if_held(tx, [plain_finish_of(job) for job in _claim(tx, tenant_id)])


def _take_in(tx: Connection, tenant_id: UUID) -> object:
    skus = tx.execute(text("SELECT sku FROM products WHERE tenant_id = :id LIMIT 100"), {"id": tenant_id}).scalars()
    return accept_orders(
        tx, [IntakeOrder(tenant_id, sku, b"", "ada@example.com", "USD", [IntakeLine(sku, 1)], "{}") for sku in skus]
    )


_NEWEST, _OLDEST = Stretch(51), Stretch(51, oldest_first=True)
CASES = [
    Case("read an order", lambda tx, tenant: get_order(tx, tenant, list_orders(tx, tenant, _NEWEST)[0].id)),
    Case("the jobs of an order", lambda tx, tenant: list_jobs(tx, tenant, JobFilter(order_id=new_id()), _NEWEST)),
    Case("read a job", lambda tx, tenant: get_job(tx, tenant, list_jobs(tx, tenant, JobFilter(), _NEWEST)[0].id)),
    Case("read a product", lambda tx, tenant: get_product(tx, tenant, list_products(tx, tenant, _NEWEST)[0].id)),
    Case("list orders", lambda tx, tenant: list_orders(tx, tenant, _NEWEST)),
    Case("list orders, the oldest first", lambda tx, tenant: list_orders(tx, tenant, _OLDEST)),
    Case("list jobs", lambda tx, tenant: list_jobs(tx, tenant, JobFilter(), _NEWEST)),
    Case("list jobs, the oldest first", lambda tx, tenant: list_jobs(tx, tenant, JobFilter(), _OLDEST)),
    Case("list jobs of one state", lambda tx, tenant: list_jobs(tx, tenant, JobFilter(state="dead"), _NEWEST)),
    Case("list products", lambda tx, tenant: list_products(tx, tenant, _NEWEST)),
    Case("list products, the oldest first", lambda tx, tenant: list_products(tx, tenant, _OLDEST)),
    Case("search products by name", lambda tx, tenant: list_products(tx, tenant, _NEWEST, search="99")),
    Case("list webhook endpoints", lambda tx, tenant: list_endpoints(tx, tenant, _NEWEST)),
    Case("the intake of 100 orders", _take_in),
    Case("the relay's search for new flows", lambda tx, _tenant: new_flows(tx, [], 64)),
    Case("the relay's look at what is due", _read_heads),
    Case("a worker's claim of a bundle of 100", _claim),
    Case("a worker's finish of a bundle of 100", _finish),
    Case("open dead letters", lambda tx, tenant: find_dead_letters(tx, DeadLetterFilter(tenant_id=tenant), _NEWEST)),
]

_SEED = [
    """
    INSERT INTO orders (id, tenant_id, idempotency_key, request_hash, customer_email, currency, total, root_job_id,
                        created_at)
    SELECT uuidv7(), t.ids[1 + n % cardinality(t.ids)], 'key-' || n, '', 'ada@example.com', 'USD', 100, uuidv7(),
           now() - make_interval(secs => n)
      FROM generate_series(1, :rows) AS n, (SELECT CAST(:tenants AS uuid[]) AS ids) AS t
    """,
    """
    INSERT INTO jobs (id, tenant_id, kind, queue, state, args, max_attempts, due_at)
    SELECT uuidv7(make_interval(secs => n - :rows)), t.ids[1 + n % cardinality(t.ids)], 'email.order_confirmed',
           'email', CASE WHEN n % 500 < 10 THEN 'dead' WHEN n > :rows / 2 THEN 'queued' ELSE 'succeeded' END, '{}', 3,
           now() - make_interval(secs => n)
      FROM generate_series(1, :rows) AS n, (SELECT CAST(:tenants AS uuid[]) AS ids) AS t
    """,
    """
    INSERT INTO outbox (job_id, queue, kind, tenant_id, due_at)
    SELECT id, queue, kind, tenant_id, due_at FROM jobs WHERE state = 'queued'
    """,
    """
    INSERT INTO dead_letters (id, tenant_id, job_id, kind, fingerprint, cause, snapshot)
    SELECT uuidv7(), tenant_id, id, kind, md5(right(CAST(id AS text), 1)), 'attempts', '{}'
      FROM jobs WHERE state = 'dead'
    """,
    """
    INSERT INTO dead_letters (id, tenant_id, job_id, kind, fingerprint, cause, snapshot, resolution)
    SELECT uuidv7(), t.ids[1 + n % cardinality(t.ids)], uuidv7(), 'email.order_confirmed', md5(CAST(n % 50 AS text)),
           'attempts', '{}', 'replayed'
      FROM generate_series(1, :rows * 98 / 100) AS n, (SELECT CAST(:tenants AS uuid[]) AS ids) AS t
    """,
    """
    INSERT INTO products (id, tenant_id, sku, name, price, currency)
    SELECT uuidv7(), t.ids[1 + n % cardinality(t.ids)], 'SKU-' || n, 'Mug ' || n, 100, 'USD'
      FROM generate_series(1, :rows) AS n, (SELECT CAST(:tenants AS uuid[]) AS ids) AS t
    """,
    "INSERT INTO stock (tenant_id, sku, on_hand) SELECT tenant_id, sku, 10 FROM products",
    """
    INSERT INTO webhook_endpoints (id, tenant_id, url, event_types, secrets)
    SELECT id, tenant_id, 'https://example.com/' || sku, '{}', '{}' FROM products
    """,
    "ANALYZE",
]


def seed(engine: Engine, rows: int) -> UUID:
    """So many orders, jobs and dead letters of ten tenants; half of the jobs wait. Answers one of the tenants."""
    with engine.begin() as tx:
        tenants = [ensure_tenant(tx, f"tenant-{number}") for number in range(TENANTS)]
        for statement in _SEED:
            given = {"rows": rows, "tenants": tenants}
            tx.execute(text(statement), {name: value for name, value in given.items() if f":{name}" in statement})
    return tenants[0]


def plan(engine: Engine, case: Case, tenant_id: UUID) -> list[str]:
    """The plan of the case's last statement, as it was run; nothing of it stays."""
    with engine.connect() as tx:
        with _caught(tx) as statements:
            case.run(tx, tenant_id)
        tx.rollback()
        *earlier, (statement, parameters) = statements
        for one, given in earlier:  # what it finds depends on them: a finish on its claim
            tx.exec_driver_sql(one, given)
        lines = tx.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) {statement}", parameters)
        return [_IDS.sub("'{...}'::uuid[]", line) for line in lines.scalars()]


@contextmanager
def _caught(tx: Connection) -> Iterator[list[tuple[str, Any]]]:
    found: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        found.append((statement, parameters))

    event.listen(tx, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(tx, "before_cursor_execute", note)


def main() -> None:
    """Prints the page."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        upgrade(stack.database_url)
        engine = connect(stack.database_url, process="explain")
        tenant_id = seed(engine, ROWS)
        print(_HEADING.format(rows=ROWS, tenants=TENANTS))
        for case in CASES:
            plan(engine, case, tenant_id)  # once for the caches
            body = "\n".join(plan(engine, case, tenant_id))
            sys.stdout.write(f"\n## {case.title.capitalize()}\n\n```\n{body}\n```\n")
        engine.dispose()


_HEADING = """# How the statements that must stay fast are run

Written by `python -m ops.explain > docs/operations/explain.md`, on a server of its own with {rows:,} orders, {rows:,}
jobs (half of them wait in the outbox), dead letters, products and endpoints each, of {tenants} tenants. Each plan is
that of the statement as the domain runs it, the second time; long lists of ids are cut. On a running system, put
`EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF)` before a statement in `psql "$DATABASE_URL"`, within `BEGIN; ...; ROLLBACK;`
for those that write."""
_IDS = re.compile(r"'\{[0-9a-f-]{36},[^']*\}'::uuid\[\]")


if __name__ == "__main__":
    main()
