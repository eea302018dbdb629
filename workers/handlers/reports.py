"""Writing a report: rows go page by page from the database through CSV into the store, so that memory stays flat.

Nothing is open in the database while the store writes, however slow it is.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from domain.job_kinds import GenerateReport
from domain.money_rules import to_major
from domain.reports.reports import complete_report, count_orders, get_report, newest_order, next_orders
from workers.context import JobContext
from workers.registry import handles

COLUMNS = ("orderId", "createdAt", "status", "reason", "customerEmail", "currency", "total")
#: A spreadsheet runs a cell that starts with one of these (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@handles(GenerateReport)
def generate_report(args: GenerateReport, ctx: JobContext) -> None:
    """The file is written under a name of this claim, so that two overlapping attempts never share one."""

    def begin(tx: Connection) -> tuple[Row[Any], datetime | None]:
        report = get_report(tx, ctx.tenant_id, args.report_id)
        return report, newest_order(tx, report)

    report, newest = ctx.at_once(begin)
    key = f"{report.tenant_id}/{report.created_at:%Y/%m}/{report.id}.{ctx.claim}.csv"
    written = _Count()
    size = ctx.reports.write(key, _csv(report, newest, ctx, written))
    with ctx.transaction() as tx:
        complete_report(tx, report, key, written.rows, size)
        ctx.result = {"reportId": str(report.id), "rows": written.rows, "bytes": size}


class _Count:
    rows = 0


def _csv(report: Row[Any], newest: datetime | None, ctx: JobContext, written: _Count) -> Iterator[bytes]:
    yield _encode([COLUMNS])
    total = ctx.at_once(lambda tx: count_orders(tx, report, newest))
    for rows in _pages(report, newest, ctx):
        yield _encode([_cells(row) for row in rows])
        written.rows += len(rows)
        ctx.progress(written.rows, total, "rows written")


def _pages(report: Row[Any], newest: datetime | None, ctx: JobContext) -> Iterator[Sequence[Row[Any]]]:
    last: Row[Any] | None = None
    while rows := ctx.at_once(partial(next_orders, report=report, newest=newest, after=last)):
        yield rows
        last = rows[-1]


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
