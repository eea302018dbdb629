"""Orders: posted, answered 202 when durable, decided by their root job, read with the timeline of their jobs."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy import Connection, Row

from api.bodies import Body, Currency, Email, Sku
from api.conditions import IfMatch, RespondAsync, entity_tag, prefers_async, versions_seen
from api.envelope import Page, Success
from api.ingress import Ingress
from api.once import Once, request_hash
from api.pages import Listing
from api.relay_bell import RelayBell
from api.requests import DemandedKey, idempotency_key, refuse, trace_context, waited_s
from api.routes.jobs import JobView, State, show_job
from api.routes.order_views import (
    OrderDetail,
    OrderSummary,
    OrderView,
    Status,
    TimelineJob,
    show_attempt,
    show_order,
    summarise,
)
from api.tenant_database import TenantDatabase
from domain.errors import IdempotencyKeyReused, Violation
from domain.job_kinds import ReserveInventory
from domain.jobs.kind import kind_of_class
from domain.jobs.queries import JobFilter, attempts_of, get_job, list_jobs
from domain.orders.intake import AcceptedOrder, IntakeLine, IntakeOrder
from domain.orders.queries import get_order, lines_of, list_orders
from domain.orders.transitions import request_cancel, request_completion
from domain.stretch import Stretch
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import ORDERS_READ, ORDERS_WRITE
from domain.webhooks.deliveries import deliveries_of
from ops.telemetry import IDEMPOTENCY

StatusFilter = Annotated[Status | None, QueryParameter(name="status", required=False)]
Quantity = Annotated[int, Meta(ge=1, le=1_000_000)]

_ROOT_KIND = kind_of_class(ReserveInventory).name
_MOST_JOBS_SHOWN = 200


class NewLine(Body, frozen=True):
    """One line: so many units of a product of the catalogue."""

    sku: Sku
    quantity: Quantity


class NewOrder(Body, frozen=True):
    """An order. Prices come from the catalogue at the time of the order; each SKU stands in one line."""

    customer_email: Email
    currency: Currency
    lines: Annotated[list[NewLine], Meta(min_length=1, max_length=100)]


class JobHandle(Struct, rename="camel"):
    """The job behind a 202, as it was when it was made: poll it for what has become of it."""

    id: UUID
    kind: str
    state: State
    done: bool
    created_at: datetime


class OrderHandle(Struct, rename="camel"):
    """An accepted order."""

    id: UUID
    status: Status
    created_at: datetime


class Accepted(Struct, rename="camel"):
    """What a 202 for an order carries: the same bytes each time its key is used again."""

    order: OrderHandle
    job: JobHandle


@post("/", summary="Post an order", permission=ORDERS_WRITE, status_code=202)
async def post_order(
    request: Request[Caller, Any, Any],
    data: JSONBody[NewOrder],
    ingress: NamedDependency[Ingress],
    key: DemandedKey = None,
    prefer: RespondAsync = None,  # noqa: ARG001  # declares the header, which may stand on several lines
) -> Response[Success[Accepted]]:
    """202 = the order, its lines and its root job are committed. The same key and body give the same answer again."""
    _refuse_duplicates(data)
    order = IntakeOrder(
        tenant_id=request.user.tenant_id,
        idempotency_key=idempotency_key(key),
        request_hash=request_hash("POST", "/api/v1/orders", data),
        customer_email=data.customer_email,
        currency=data.currency,
        lines=[IntakeLine(line.sku, line.quantity) for line in data.lines],
        trace_context=trace_context(request),
    )
    try:
        accepted = await ingress.accept(order, waited_s(request))
    except IdempotencyKeyReused:
        IDEMPOTENCY.labels("mismatch").inc()
        raise
    IDEMPOTENCY.labels("replayed" if accepted.replayed else "new").inc()
    return _accepted(accepted, prefers_async(request.headers.getall("prefer", [])))


def _refuse_duplicates(order: NewOrder) -> None:
    counts = Counter(line.sku for line in order.lines)
    refuse(
        *(
            Violation(f"lines[{position_}].sku", "stands in another line too", "DUPLICATE")
            for position_, line in enumerate(order.lines)
            if counts[line.sku] > 1
        )
    )


def _accepted(accepted: AcceptedOrder, is_preferred: bool) -> Response[Success[Accepted]]:
    job = f"/api/v1/jobs/{accepted.job_id}"
    body = Accepted(
        OrderHandle(accepted.order_id, "accepted", accepted.created_at),
        JobHandle(accepted.job_id, _ROOT_KIND, "queued", done=False, created_at=accepted.created_at),
    )
    order = f"/api/v1/orders/{accepted.order_id}"
    links = {"self": job, "events": f"{job}/events", "order": order, "cancel": f"{order}/cancel"}
    headers = {"Location": job, "Retry-After": "1", "Vary": "Prefer"}
    if is_preferred:
        headers["Preference-Applied"] = "respond-async"
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(Success(data=body, links=links), status_code=202, headers=headers)


@get("/", summary="List orders", permission=ORDERS_READ, sync_to_thread=True)
def get_orders(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
    status: StatusFilter = None,
) -> Response[Page[OrderView]]:
    """The tenant's orders."""
    stretch = listing.stretch(timed=True)
    with database.connect() as connection:
        rows = list_orders(connection, caller.tenant_id, stretch, status=status)
        lines = lines_of(connection, caller.tenant_id, [row.id for row in rows])
    return listing.page(rows, lambda row: show_order(row, lines[row.id]), at=lambda row: row.created_at)


@get("/{order_id:str}", summary="Read an order", permission=ORDERS_READ, sync_to_thread=True)
def get_one_order(
    order_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Response[Success[OrderDetail]]:
    """The order with the timeline of its jobs."""
    with database.connect() as connection:
        order = get_order(connection, caller.tenant_id, order_id)
        lines = lines_of(connection, caller.tenant_id, [order_id])[order_id]
        jobs = _jobs_of(connection, caller.tenant_id, order_id)
        attempts = attempts_of(connection, [job.id for job in jobs])
    timeline = [TimelineJob(show_job(job), [show_attempt(row) for row in attempts[job.id]]) for job in jobs]
    headers = {"ETag": entity_tag(order.version, timeline)}
    return Response(Success(data=OrderDetail(show_order(order, lines), timeline)), headers=headers)


@get("/{order_id:str}/summary", summary="Read an order in short", permission=ORDERS_READ, sync_to_thread=True)
def get_order_summary(
    order_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Success[OrderSummary]:
    """The order, the states of its jobs and its deliveries to webhook endpoints."""
    with database.connect() as connection:
        order = get_order(connection, caller.tenant_id, order_id)
        lines = lines_of(connection, caller.tenant_id, [order_id])[order_id]
        jobs = _jobs_of(connection, caller.tenant_id, order_id)
        deliveries = deliveries_of(connection, caller.tenant_id, [job.id for job in jobs])
    return Success(data=summarise(show_order(order, lines), jobs, deliveries))


def _jobs_of(connection: Connection, tenant_id: UUID, order_id: UUID) -> Sequence[Row[Any]]:
    """The newest, in the order in which they were caused."""
    return list_jobs(connection, tenant_id, JobFilter(order_id=order_id), Stretch(_MOST_JOBS_SHOWN))[::-1]


@get("/{order_id:str}/jobs", summary="List an order's jobs", permission=ORDERS_READ, sync_to_thread=True)
def get_order_jobs(
    order_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
) -> Response[Page[JobView]]:
    """The jobs that the order caused."""
    stretch = listing.stretch()
    with database.connect() as connection:
        get_order(connection, caller.tenant_id, order_id)
        rows = list_jobs(connection, caller.tenant_id, JobFilter(order_id=order_id), stretch)
    return listing.page(rows, show_job)


@post(
    "/{order_id:str}/cancel", summary="Cancel an order", permission=ORDERS_WRITE, status_code=202, sync_to_thread=True
)
def cancel_order(
    request: Request[Caller, Any, Any],
    order_id: FromPath[UUID],
    once: NamedDependency[Once],
    bell: NamedDependency[RelayBell],
    if_match: IfMatch = None,
) -> Response[Success[JobView]]:
    """A job frees what the order holds and cancels it. 409 once the order was rejected, has failed, or is closed."""

    def cancel(tx: Connection) -> Response[Success[JobView]]:
        job = request_cancel(tx, request.user.tenant_id, order_id, trace_context(request), versions_seen(if_match))
        return _queued(get_job(tx, request.user.tenant_id, job.id))

    answer = once.answer(None, cancel)
    bell.ring_from_thread()
    return answer


@post(
    "/{order_id:str}/complete",
    summary="Complete an order",
    permission=ORDERS_WRITE,
    status_code=202,
    sync_to_thread=True,
)
def complete_order(
    request: Request[Caller, Any, Any],
    order_id: FromPath[UUID],
    once: NamedDependency[Once],
    bell: NamedDependency[RelayBell],
    if_match: IfMatch = None,
) -> Response[Success[JobView]]:
    """The goods are shipped: a job takes them off the shelf and completes the order. 409 unless it is confirmed."""

    def complete(tx: Connection) -> Response[Success[JobView]]:
        job = request_completion(tx, request.user.tenant_id, order_id, trace_context(request), versions_seen(if_match))
        return _queued(get_job(tx, request.user.tenant_id, job.id))

    answer = once.answer(None, complete)
    bell.ring_from_thread()
    return answer


def _queued(job: Row[Any]) -> Response[Success[JobView]]:
    monitor = f"/api/v1/jobs/{job.id}"
    headers = {"Location": monitor, "Retry-After": "1"}
    return Response(Success(data=show_job(job), links={"self": monitor}), status_code=202, headers=headers)


router = Router(
    "/orders",
    route_handlers=[
        post_order,
        get_orders,
        get_one_order,
        get_order_summary,
        get_order_jobs,
        cancel_order,
        complete_order,
    ],
    tags=["Orders"],
)
