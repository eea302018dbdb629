"""Writing a report: rows stream from the database through CSV into the store, so that memory stays flat."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from domain.job_kinds import GenerateReport
from domain.money_rules import to_major
from domain.reports.reports import complete_report, count_orders, get_report, orders_in_period
from workers.context import JobContext
from workers.registry import handles

COLUMNS = ("orderId", "createdAt", "status", "reason", "customerEmail", "currency", "total")
#: A spreadsheet runs a cell that starts with one of these (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@handles(GenerateReport)
def generate_report(args: GenerateReport, ctx: JobContext) -> None:
    """The file is written under a name of this claim, so that two overlapping attempts never share one."""
    report = get_report(ctx.connection, ctx.tenant_id, args.report_id)
    key = f"{report.tenant_id}/{report.created_at:%Y/%m}/{report.id}.{ctx.claim}.csv"
    written = _Count()
    size = ctx.reports.write(key, _csv(report, ctx, written))
    with ctx.transaction() as tx:
        complete_report(tx, report, key, written.rows, size)
        ctx.result = {"reportId": str(report.id), "rows": written.rows, "bytes": size}


class _Count:
    rows = 0


def _csv(report: Row[Any], ctx: JobContext, written: _Count) -> Iterator[bytes]:
    yield _encode([COLUMNS])
    total = count_orders(ctx.connection, report)
    for rows in orders_in_period(ctx.connection, report):
        yield _encode([_cells(row) for row in rows])
        written.rows += len(rows)
        ctx.progress(written.rows, total, "rows written")


def _cells(order: Row[Any]) -> Sequence[object]:
    amount = to_major(order.total, order.currency)
    created_at = order.created_at.isoformat().replace("+00:00", "Z")
    return order.id, created_at, order.status, order.reason, _harmless(order.customer_email), order.currency, amount


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _encode(rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()
