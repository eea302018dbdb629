"""A report streams: whatever its size, only a batch of rows is in memory."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Engine, Row, text

from domain.reports.reports import count_orders, orders_in_period
from domain.tenants.tenants import ensure_tenant

ROWS = 2_500


def test_rows_come_in_batches_however_many_there_are(engine: Engine) -> None:
    # Given many orders of one tenant, and some of another
    with engine.begin() as tx:
        tenant, other = ensure_tenant(tx, "ours"), ensure_tenant(tx, "theirs")
        for owner, count in ((tenant, ROWS), (other, 10)):
            tx.execute(
                text(
                    "INSERT INTO orders (id, tenant_id, idempotency_key, request_hash, customer_email, currency, total,"
                    " root_job_id) SELECT uuidv7(), :owner, 'k' || n, 'h', 'ada@example.com', 'USD', n, uuidv7()"
                    " FROM generate_series(1, :count) AS n"
                ),
                {"owner": owner, "count": count},
            )
    period = {"period_from": datetime(2020, 1, 1, tzinfo=UTC), "period_to": datetime(2100, 1, 1, tzinfo=UTC)}
    report = cast("Row[Any]", SimpleNamespace(tenant_id=tenant, **period))
    # When they are read
    with engine.connect() as connection:
        assert count_orders(connection, report) == ROWS
        batches = [len(rows) for rows in orders_in_period(connection, report, rows_at_once=500)]
    # Then never more than a batch at once, and each row of this tenant once
    assert batches == [500] * 5
