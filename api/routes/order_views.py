"""What a caller sees of an order: its lines, and everything that was done for it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row

from api.routes.jobs import JobView, State
from domain.jobs.state_machine import TERMINAL
from domain.money_rules import to_major

Status = Literal["accepted", "confirmed", "rejected", "failed", "completed", "cancelled"]


class LineView(Struct, rename="camel"):
    """One line, its price in major units."""

    sku: str
    quantity: int
    unit_price: float


class OrderView(Struct, rename="camel"):
    """One order. `reason` says why it was rejected or has failed."""

    id: UUID
    status: Status
    reason: str | None
    customer_email: str
    currency: str
    total: float
    version: int
    created_at: datetime
    lines: list[LineView]


class AttemptView(Struct, rename="camel"):
    """One attempt of a job."""

    number: int
    outcome: str
    started_at: datetime | None
    finished_at: datetime


class TimelineJob(Struct, rename="camel"):
    """One job that the order caused, with its attempts."""

    job: JobView
    attempts: list[AttemptView]


class OrderDetail(Struct, rename="camel"):
    """An order with everything that was done for it, in the order it was caused."""

    order: OrderView
    timeline: list[TimelineJob]


class JobSummary(Struct, rename="camel"):
    """One job of an order, in short."""

    id: UUID
    kind: str
    state: State
    done: bool
    attempts: int


class DeliverySummary(Struct, rename="camel"):
    """One event about an order, as it is or was delivered to one endpoint. `state` is that of its job."""

    job_id: UUID
    endpoint_id: UUID
    event: str
    state: State
    attempts: int


class OrderSummary(Struct, rename="camel"):
    """An order on one screen: what became of it, of its newest jobs, and who was told."""

    order: OrderView
    jobs: list[JobSummary]
    deliveries: list[DeliverySummary]


def show_order(order: Row[Any], lines: list[Row[Any]]) -> OrderView:
    """One row of `orders` with those of its lines."""
    return OrderView(
        id=order.id,
        status=order.status,
        reason=order.reason,
        customer_email=order.customer_email,
        currency=order.currency,
        total=float(to_major(order.total, order.currency)),
        version=order.version,
        created_at=order.created_at,
        lines=[LineView(line.sku, line.quantity, float(to_major(line.unit_price, order.currency))) for line in lines],
    )


def show_attempt(attempt: Row[Any]) -> AttemptView:
    """One row of `attempts`."""
    return AttemptView(attempt.number, attempt.outcome, attempt.started_at, attempt.finished_at)


def summarise(order: OrderView, jobs: Sequence[Row[Any]], deliveries: Mapping[UUID, Row[Any]]) -> OrderSummary:
    """Rows of `jobs`, and those of `webhook_deliveries` by the ids of the jobs that deliver them."""
    return OrderSummary(
        order,
        [
            JobSummary(job.id, job.kind, job.state, job.state in TERMINAL, job.attempt)
            for job in jobs
            if job.id not in deliveries
        ],
        [
            DeliverySummary(job.id, deliveries[job.id].endpoint_id, deliveries[job.id].type, job.state, job.attempt)
            for job in jobs
            if job.id in deliveries
        ],
    )
