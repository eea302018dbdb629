"""Reserving, releasing and shipping what orders asked for: many orders per transaction, one lock per SKU.

Rows are locked in one order everywhere: jobs, then orders by id, then stock by key. The caller commits together with
the finish of the jobs, so an order's stock is taken exactly once whatever dies.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.errors import InsufficientStock
from domain.event_types import Event, Line, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated, OrderRejected
from domain.events import Occurrence, publish
from domain.ids import new_id
from domain.inventory.allocation_rules import Allocation, Demand, allocate
from domain.inventory.stock import Movement, lock_stock, move_stock
from domain.jobs.outbox import columns
from domain.money_rules import to_major

OUT_OF_STOCK = InsufficientStock.code
UNDECIDED = "ORDER_ACCEPTED"

_LOCK_ORDERS = text(
    """
    SELECT id, tenant_id, status, currency, total, version FROM orders
     WHERE id = ANY(CAST(:ids AS uuid[]))
       AND (id, tenant_id) IN (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS uuid[])))
     ORDER BY id FOR UPDATE
    """
)
_LINES = text(
    "SELECT order_id, sku, quantity, unit_price FROM order_lines WHERE order_id = ANY(CAST(:ids AS uuid[])) "
    "AND tenant_id = ANY(CAST(:tenants AS uuid[])) ORDER BY order_id, sku"
)
_SET_STATUS = text(
    """
    UPDATE orders SET status = t.status, reason = t.reason, version = version + 1
      FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[])) AS t(id, status, reason)
     WHERE orders.id = t.id
    """
)
_HOLD = text(
    """
    INSERT INTO reservations (order_id, sku, tenant_id, quantity)
    SELECT * FROM unnest(CAST(:order_id AS uuid[]), CAST(:sku AS text[]), CAST(:tenant_id AS uuid[]),
                         CAST(:quantity AS int[]))
    """
)
_END_HOLDS = text(
    """
    UPDATE reservations SET state = :state
     WHERE order_id = ANY(CAST(:ids AS uuid[])) AND state = 'held' RETURNING order_id, tenant_id, sku, quantity
    """
)


class _Hold(msgspec.Struct, frozen=True):
    order_id: UUID
    sku: str
    tenant_id: UUID
    quantity: int


#: What a job of the inventory is told: order id -> the result that a poller of the job sees.
Results = dict[UUID, dict[str, Any]]


def reserve(
    tx: Connection,
    job_of: Mapping[UUID, UUID],
    tenant_of: Mapping[UUID, UUID],
    trace_of: Mapping[UUID, dict[str, str] | None],
) -> Results:
    """Each undecided order of `job_of` (order id -> job id) is confirmed with stock reserved for all its lines, or
    rejected with nothing reserved; its events are published. An order decided before is left as it is, and one that is
    not its job's tenant's (`tenant_of`) is not there.
    """
    orders = {row.id: row for row in _lock_orders(tx, job_of, tenant_of)}
    undecided = [row for row in orders.values() if row.status in {"accepted", "failed"}]
    lines = _lines_of(tx, undecided)
    demands = [
        Demand(order.id, {(order.tenant_id, line.sku): line.quantity for line in lines[order.id]})
        for order in undecided
    ]
    free = lock_stock(tx, [key for demand in demands for key in demand.wanted])
    allocations = allocate(free, demands)
    served = [demand for demand, allocation in zip(demands, allocations, strict=True) if allocation.short is None]
    _take(tx, served, job_of)
    _decide(tx, allocations)
    publish(tx, _reservation_events(orders, lines, allocations, trace_of))
    results = {order_id: {"code": f"ORDER_{order.status.upper()}"} for order_id, order in orders.items()}
    return results | {allocation.order_id: _result(allocation) for allocation in allocations}


def release(
    tx: Connection,
    job_of: Mapping[UUID, UUID],
    tenant_of: Mapping[UUID, UUID],
    trace_of: Mapping[UUID, dict[str, str] | None],
) -> Results:
    """Each confirmed order is cancelled and what it held is free. An undecided order answers UNDECIDED.

    A failed order is cancelled too, so that a replay of its reservation does not confirm what was cancelled before.
    """
    ends = {"confirmed", "failed"}
    return _end(tx, job_of, tenant_of, trace_of, ends=ends, state="released", status="cancelled", event=OrderCancelled)


def ship(
    tx: Connection,
    job_of: Mapping[UUID, UUID],
    tenant_of: Mapping[UUID, UUID],
    trace_of: Mapping[UUID, dict[str, str] | None],
) -> Results:
    """Each confirmed order is completed and what it held has left the shelf."""
    ends = {"confirmed"}
    return _end(tx, job_of, tenant_of, trace_of, ends=ends, state="shipped", status="completed", event=OrderCompleted)


def _end(  # noqa: PLR0913  # three sorts of orders end alike
    tx: Connection,
    job_of: Mapping[UUID, UUID],
    tenant_of: Mapping[UUID, UUID],
    trace_of: Mapping[UUID, dict[str, str] | None],
    *,
    ends: set[str],
    state: str,
    status: str,
    event: type[OrderCancelled] | type[OrderCompleted],
) -> Results:
    orders = _lock_orders(tx, job_of, tenant_of)
    ended = [order for order in orders if order.status in ends]
    _end_holds(tx, [order.id for order in ended], state, job_of)
    _set_status(tx, [(order.id, status, None) for order in ended])
    occurrences = [
        Occurrence(order.tenant_id, order.id, order.version + 1, event(order_id=order.id), trace_of.get(order.id))
        for order in ended
    ]
    publish(tx, occurrences)
    decided = {order.id: {"code": f"ORDER_{order.status.upper()}"} for order in orders}
    return decided | {order.id: {"code": f"ORDER_{status.upper()}"} for order in ended}


def _lock_orders(tx: Connection, job_of: Mapping[UUID, UUID], tenant_of: Mapping[UUID, UUID]) -> Sequence[Row[Any]]:
    bounds = {"ids": list(job_of), "tenants": [tenant_of[order_id] for order_id in job_of]}
    return tx.execute(_LOCK_ORDERS, bounds).all()


def _end_holds(tx: Connection, order_ids: list[UUID], state: str, job_of: Mapping[UUID, UUID]) -> None:
    ended = tx.execute(_END_HOLDS, {"ids": order_ids, "state": state}).all()
    lock_stock(tx, [(row.tenant_id, row.sku) for row in ended])
    move_stock(
        tx,
        [
            Movement(
                new_id(),
                row.tenant_id,
                row.sku,
                -row.quantity if state == "shipped" else 0,
                -row.quantity,
                state,
                row.order_id,
                job_of[row.order_id],
            )
            for row in ended
        ],
    )


def _lines_of(tx: Connection, orders: Sequence[Row[Any]]) -> dict[UUID, list[Row[Any]]]:
    lines: dict[UUID, list[Row[Any]]] = {order.id: [] for order in orders}
    bounds = {"ids": list(lines), "tenants": list({order.tenant_id for order in orders})}
    for line in tx.execute(_LINES, bounds):
        lines[line.order_id].append(line)
    return lines


def _take(tx: Connection, served: Sequence[Demand], job_of: Mapping[UUID, UUID]) -> None:
    holds = [
        _Hold(demand.order_id, sku, tenant_id, units)
        for demand in served
        for (tenant_id, sku), units in demand.wanted.items()
    ]
    if not holds:
        return
    tx.execute(_HOLD, columns(holds))
    move_stock(
        tx,
        [
            Movement(new_id(), h.tenant_id, h.sku, 0, h.quantity, "reserved", h.order_id, job_of[h.order_id])
            for h in holds
        ],
    )


def _decide(tx: Connection, allocations: Sequence[Allocation]) -> None:
    _set_status(
        tx,
        [
            (a.order_id, "confirmed", None) if a.short is None else (a.order_id, "rejected", OUT_OF_STOCK)
            for a in allocations
        ],
    )


def _set_status(tx: Connection, moves: Sequence[tuple[UUID, str, str | None]]) -> None:
    if moves:
        ids, statuses, reasons = (list(column) for column in zip(*moves, strict=True))
        tx.execute(_SET_STATUS, {"ids": ids, "statuses": statuses, "reasons": reasons})


def _reservation_events(
    orders: Mapping[UUID, Row[Any]],
    lines: Mapping[UUID, Sequence[Row[Any]]],
    allocations: Sequence[Allocation],
    trace_of: Mapping[UUID, dict[str, str] | None],
) -> list[Occurrence]:
    occurrences = []
    for allocation in allocations:
        order = orders[allocation.order_id]
        facts = _facts(order, lines[order.id])
        decision: Event = (
            OrderConfirmed(**facts)
            if allocation.short is None
            else OrderRejected(order_id=order.id, reason=OUT_OF_STOCK, sku=allocation.short)
        )
        # A replay after order.failed tells of the creation too: nobody has heard of it, and its number is still free.
        created = order.version - 1 if order.status == "failed" else order.version
        occurrences += [
            Occurrence(order.tenant_id, order.id, sequence, event, trace_of.get(order.id))
            for sequence, event in [(created, OrderCreated(**facts)), (order.version + 1, decision)]
        ]
    return occurrences


def _facts(order: Row[Any], lines: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "currency": order.currency,
        "total": to_major(order.total, order.currency),
        "lines": [Line(line.sku, line.quantity, to_major(line.unit_price, order.currency)) for line in lines],
    }


def _result(allocation: Allocation) -> dict[str, Any]:
    if allocation.short is None:
        return {"code": "ORDER_CONFIRMED"}
    return {"code": OUT_OF_STOCK, "sku": allocation.short}
