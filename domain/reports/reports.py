"""Reports: asked for by a tenant, written by a job, downloaded while they are kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, insert, select, text, update

from domain.errors import NotFound
from domain.event_types import ReportCompleted
from domain.events import Occurrence, publish
from domain.ids import new_id
from domain.job_kinds import GenerateReport
from domain.jobs.outbox import NewJob, enqueue, new_job
from domain.stretch import Stretch
from domain.tables.jobs import jobs
from domain.tables.reports import reports

_BEFORE_ALL = UUID(int=0)
_WITH_JOB = select(reports, jobs.c.state.label("job_state")).join(jobs, jobs.c.id == reports.c.job_id, isouter=True)


def request_report(
    tx: Connection, tenant_id: UUID, *, type_: str, format_: str, since: datetime, until: datetime, trace: str | None
) -> tuple[Row[Any], NewJob]:
    """A report and the job that writes it."""
    report_id = new_id()
    job = new_job(GenerateReport(report_id), tenant_id=tenant_id, trace_context=trace)
    tx.execute(
        insert(reports).values(
            id=report_id,
            tenant_id=tenant_id,
            type=type_,
            format=format_,
            period_from=since,
            period_to=until,
            job_id=job.id,
        )
    )
    enqueue(tx, [job])
    return get_report(tx, tenant_id, report_id), job


def get_report(tx: Connection, tenant_id: UUID, report_id: UUID) -> Row[Any]:
    """One report with the state of its job. Raises NotFound, also for another tenant's."""
    row = tx.execute(_WITH_JOB.where(reports.c.tenant_id == tenant_id, reports.c.id == report_id)).first()
    if row is None:
        raise NotFound(resource="Report")
    return row


def list_reports(tx: Connection, tenant_id: UUID, stretch: Stretch) -> Sequence[Row[Any]]:
    """A stretch of the reports by id."""
    return tx.execute(stretch.of(_WITH_JOB.where(reports.c.tenant_id == tenant_id), reports.c.id)).all()


_OF_PERIOD = "FROM orders WHERE tenant_id = :tenant_id AND created_at >= :since AND created_at"
_NEWEST = text(f"SELECT max(created_at) {_OF_PERIOD} < :until")
_COUNT = text(f"SELECT count(*) {_OF_PERIOD} <= CAST(:newest AS timestamptz)")
_NEXT_ORDERS = text(
    """
    SELECT id, created_at, status, reason, customer_email, currency, total FROM orders
     WHERE tenant_id = :tenant_id AND (created_at, id) > (:after_at, :after_id)
       AND created_at <= CAST(:newest AS timestamptz)
     ORDER BY created_at, id LIMIT :limit
    """
)


def newest_order(tx: Connection, report: Row[Any]) -> datetime | None:
    """When the newest order of the report's period was made that is there now; None when there is none.

    The report is written up to it, so that orders that come meanwhile cannot go on for ever. A clock would be no bound:
    one that was put back leaves out what was accepted before the report was asked for.
    """
    bounds = {"tenant_id": report.tenant_id, "since": report.period_from, "until": report.period_to}
    newest: datetime | None = tx.execute(_NEWEST, bounds).scalar_one()
    return newest


def count_orders(tx: Connection, report: Row[Any], newest: datetime | None) -> int:
    """How many rows the report will have if it is written up to `newest`."""
    bounds = {"tenant_id": report.tenant_id, "since": report.period_from, "newest": newest}
    return int(tx.execute(_COUNT, bounds).scalar_one())


def next_orders(
    tx: Connection, report: Row[Any], newest: datetime | None, after: Row[Any] | None = None, limit: int = 2_000
) -> Sequence[Row[Any]]:
    """The tenant's next orders in the report's period up to `newest`, oldest first; none after the last.

    Each as it is now. A page is a read of its own: nothing is open while somebody writes what he has read.
    """
    bounds = {
        "tenant_id": report.tenant_id,
        "after_at": after.created_at if after else report.period_from,
        "after_id": after.id if after else _BEFORE_ALL,
        "newest": newest,
        "limit": limit,
    }
    return tx.execute(_NEXT_ORDERS, bounds).all()


def complete_report(tx: Connection, report: Row[Any], object_key: str, row_count: int, byte_count: int) -> None:
    """The report's file can be downloaded, and `report.completed` is published."""
    values = {"object_key": object_key, "row_count": row_count, "byte_count": byte_count}
    tx.execute(update(reports).where(reports.c.id == report.id).values(values))
    event = ReportCompleted(report_id=report.id, row_count=row_count)
    publish(tx, [Occurrence(report.tenant_id, report.id, 1, event)])
