"""Reports: asked for with 202, written by a job, downloaded as a stream."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream
from msgspec import Struct
from sqlalchemy import Connection, Row

from api.bodies import Body
from api.envelope import Page, Success
from api.once import Once
from api.pages import Listing
from api.relay_bell import RelayBell
from api.requests import refuse, trace_context
from api.tenant_database import TenantDatabase
from domain.errors import JobNotFinished, ResultExpired, Violation
from domain.reports.reports import get_report, list_reports, request_report
from domain.reports.store import ReportStore
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import REPORTS_READ, REPORTS_WRITE


class NewReport(Body, frozen=True, rename={"from_": "from"}):
    """A report of the orders posted from `from` (inclusive) to `to` (exclusive), both with a UTC offset."""

    type: Literal["orders"]
    from_: datetime
    to: datetime
    format: Literal["csv"] = "csv"


class ReportView(Struct, rename={"created_at": "createdAt", "job_id": "jobId", "from_": "from"}, kw_only=True):
    """One report. `state` is that of its job; `rows` and `bytes` are set once its file is whole."""

    id: UUID
    type: str
    format: str
    from_: datetime
    to: datetime
    state: str
    job_id: UUID
    rows: int | None
    bytes: int | None
    created_at: datetime


@post("/", summary="Ask for a report", permission=REPORTS_WRITE, cost=5, status_code=202, sync_to_thread=True)
def post_report(
    request: Request[Caller, Any, Any],
    data: JSONBody[NewReport],
    once: NamedDependency[Once],
    bell: NamedDependency[RelayBell],
) -> Response[Success[ReportView]]:
    """202 = the report and the job that writes it are committed."""
    _check(data)

    def ask(tx: Connection) -> Response[Success[ReportView]]:
        report, job = request_report(
            tx,
            request.user.tenant_id,
            type_=data.type,
            format_=data.format,
            since=data.from_,
            until=data.to,
            trace=trace_context(request),
        )
        links = {"self": f"/api/v1/reports/{report.id}", "job": f"/api/v1/jobs/{job.id}"}
        headers = {"Location": links["job"], "Retry-After": "1"}
        return Response(Success(data=_show(report), links=links), status_code=202, headers=headers)

    answer = once.answer(data, ask)
    bell.ring_from_thread()
    return answer


@get("/", summary="List reports", permission=REPORTS_READ, sync_to_thread=True)
def get_reports(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
) -> Response[Page[ReportView]]:
    """The tenant's reports."""
    stretch = listing.stretch()
    with database.connect() as connection:
        rows = list_reports(connection, caller.tenant_id, stretch)
    return listing.page(rows, _show)


@get("/{report_id:str}", summary="Read a report", permission=REPORTS_READ, sync_to_thread=True)
def get_one_report(
    report_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Success[ReportView]:
    """One report; `links.download` once its file is whole."""
    with database.connect() as connection:
        report = get_report(connection, caller.tenant_id, report_id)
    links = {"download": f"/api/v1/reports/{report.id}/download"} if report.object_key else None
    return Success(data=_show(report), links=links)


@get(
    "/{report_id:str}/download",
    summary="Download a report",
    permission=REPORTS_READ,
    media_type="text/csv",
    sync_to_thread=True,
)
def download_report(
    report_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    store: NamedDependency[ReportStore],
) -> Stream:
    """The file, streamed; 409 while it is not whole, 410 when it is no longer kept."""
    with database.connect() as connection:
        report = get_report(connection, caller.tenant_id, report_id)
    if report.object_key is None:
        raise JobNotFinished(state=_state(report))
    try:
        chunks = store.read(report.object_key)
    except FileNotFoundError as error:
        raise ResultExpired(resource="The report's file") from error
    headers = {
        "Content-Disposition": f'attachment; filename="orders-{report.id}.csv"',
        "Content-Length": str(report.byte_count),  # without it, a file that breaks off looks whole
    }
    return Stream(chunks, media_type="text/csv", headers=headers)


def _check(report: NewReport) -> None:
    period = {"from": report.from_, "to": report.to}
    refuse(*(Violation(name, why) for name, at in period.items() if (why := _time_problem(at))))
    if report.from_ >= report.to:
        refuse(Violation("to", "must be later than from", "OUT_OF_RANGE"))


def _time_problem(at: datetime) -> str | None:
    if at.tzinfo is None:
        return "must carry a UTC offset, such as Z"
    try:
        at.astimezone(UTC)
    except OverflowError:
        return "must be within the years 1 to 9999 in UTC"
    return None


def _show(row: Row[Any]) -> ReportView:
    return ReportView(
        id=row.id,
        type=row.type,
        format=row.format,
        from_=row.period_from,
        to=row.period_to,
        state=_state(row),
        job_id=row.job_id,
        rows=row.row_count,
        bytes=row.byte_count,
        created_at=row.created_at,
    )


def _state(row: Row[Any]) -> Any:
    """That of its job, also when retention has taken the job."""
    return row.job_state or ("succeeded" if row.object_key else "dead")


router = Router(
    "/reports", route_handlers=[post_report, get_reports, get_one_report, download_report], tags=["Reports"]
)
