"""The facts that can happen. Their fields, in camelCase, are what subscribers see as `data`; none is personal."""

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from msgspec import Struct, StructMeta

EVENT_TYPES: dict[str, type["Event"]] = {}


class EventMeta(StructMeta):
    """Takes the stable name of an event as a class keyword: `class OrderConfirmed(Event, type="order.confirmed")`."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        type: str = "",  # noqa: A002  # the word of the declaration, as in CloudEvents
        **options: Any,
    ) -> Any:
        event: Any = super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True, rename="camel", **options)
        if type:
            if type in EVENT_TYPES:
                raise ValueError(f"event {type!r} is declared twice")
            event.type = type
            EVENT_TYPES[type] = event
        return event


class Event(Struct, metaclass=EventMeta):
    """The base of every event."""

    type: ClassVar[str]


class Line(Struct, frozen=True, rename="camel"):
    """One line of an order, prices in major units of the order's currency."""

    sku: str
    quantity: int
    unit_price: Decimal


class OrderCreated(Event, type="order.created"):
    """An order was taken in."""

    order_id: UUID
    currency: str
    total: Decimal
    lines: list[Line]


class OrderConfirmed(Event, type="order.confirmed"):
    """Stock is reserved for every line."""

    order_id: UUID
    currency: str
    total: Decimal
    lines: list[Line]


class OrderRejected(Event, type="order.rejected"):
    """Nothing is reserved. `reason` is a code, `sku` the line that failed."""

    order_id: UUID
    reason: str
    sku: str


class OrderFailed(Event, type="order.failed"):
    """The reservation gave up; an operator's replay may still confirm the order."""

    order_id: UUID
    reason: str


class OrderCancelled(Event, type="order.cancelled"):
    """The reserved stock is free again."""

    order_id: UUID


class OrderCompleted(Event, type="order.completed"):
    """The goods have left the shelf."""

    order_id: UUID


class ReportCompleted(Event, type="report.completed"):
    """The report's file is whole and can be downloaded."""

    report_id: UUID
    row_count: int
