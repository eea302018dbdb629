"""A report is written page by page: in memory is one page, in the database nothing is open, and it comes to an end."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from domain.jobs.kind import find_kind
from domain.reports.reports import count_orders, get_report, newest_order, next_orders, request_report
from domain.tenants.tenants import ensure_tenant
from tests.integration.builders import a_product, accepted, an_order, claimed, resources, rows, scalar
from workers.context import JobContext
from workers.handlers.reports import generate_report

ROWS = 2_500
PERIOD = {"since": datetime(2020, 1, 1, tzinfo=UTC), "until": datetime(2100, 1, 1, tzinfo=UTC)}


class Asked:
    """A report that somebody asked for, of many orders. Another tenant has some, too."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with engine.begin() as tx:
            self.tenant_id, other = ensure_tenant(tx, "ours"), ensure_tenant(tx, "theirs")
            for owner, count in ((self.tenant_id, ROWS), (other, 10)):
                tx.execute(
                    text(
                        "INSERT INTO orders (id, tenant_id, idempotency_key, request_hash, customer_email, currency,"
                        " total, root_job_id) SELECT uuidv7(), :owner, 'k' || n, 'h', 'ada@example.com', 'USD', n,"
                        " uuidv7() FROM generate_series(1, :count) AS n"
                    ),
                    {"owner": owner, "count": count},
                )
            self.report, self.job = request_report(
                tx, self.tenant_id, type_="orders", format_="csv", trace=None, **PERIOD
            )

    def pages(self, newest: datetime | None, limit: int) -> Iterator[list[Any]]:
        last = None
        with self.engine.connect() as connection:
            while page := next_orders(connection, self.report, newest, last, limit):
                yield list(page)
                last = page[-1]

    def newest(self) -> datetime | None:
        with self.engine.connect() as connection:
            return newest_order(connection, self.report)


@pytest.fixture
def asked(engine: Engine) -> Asked:
    return Asked(engine)


def test_rows_come_in_pages_however_many_there_are(asked: Asked) -> None:
    """All of them have one time: the pages part them by id."""
    newest = asked.newest()
    pages = list(asked.pages(newest, limit=500))
    assert [len(page) for page in pages] == [500] * 5
    assert len({order.id for page in pages for order in page}) == ROWS
    with asked.engine.connect() as connection:
        assert count_orders(connection, asked.report, newest) == ROWS
    # And none of after the moment that is asked for
    assert list(asked.pages(PERIOD["since"], limit=500)) == []


def test_a_clock_of_the_database_that_was_put_back_leaves_no_order_out(asked: Asked) -> None:
    """What was accepted before is newer than what the clock says now."""
    with asked.engine.begin() as tx:
        tx.execute(text("UPDATE orders SET created_at = created_at + interval '4 s'"))
    assert sum(len(page) for page in asked.pages(asked.newest(), limit=500)) == ROWS


def test_a_period_without_orders_has_no_rows(asked: Asked) -> None:
    with asked.engine.begin() as tx:
        tx.execute(text("UPDATE orders SET created_at = :long_ago"), {"long_ago": datetime(2010, 1, 1, tzinfo=UTC)})
    assert asked.newest() is None
    assert list(asked.pages(None, limit=500)) == []
    with asked.engine.connect() as connection:
        assert count_orders(connection, asked.report, None) == 0


def test_nothing_is_open_while_the_store_writes_and_what_comes_meanwhile_is_of_another_report(asked: Asked) -> None:
    engine, files = asked.engine, []
    a_product(engine, asked.tenant_id)

    class Store:
        def write(self, _key: str, chunks: Iterator[bytes]) -> int:
            files.append(b"")
            for number, chunk in enumerate(chunks):
                accepted(engine, [an_order(asked.tenant_id)] if number < 10 else [])
                open_ = "state LIKE 'idle in transaction%' AND datname = current_database()"
                assert rows(engine, f"SELECT query FROM pg_stat_activity WHERE {open_}") == []
                files[-1] += chunk
            return len(files[-1])

    (job,) = claimed(engine, [asked.job.id])
    store: Any = Store()
    generate_report(
        find_kind(job.kind).decode(job.args),
        JobContext(job, msgspec.structs.replace(resources(engine), reports=store), 60),
    )
    header, *lines = csv.reader(files[0].decode().splitlines())
    assert (header[0], len(lines), len({order_id for order_id, *_ in lines})) == ("orderId", ROWS, ROWS)
    with engine.connect() as connection:
        assert get_report(connection, asked.tenant_id, asked.report.id).row_count == ROWS
    assert scalar(engine, "SELECT count(*) FROM orders WHERE tenant_id = :id", id=asked.tenant_id) > ROWS + 1
