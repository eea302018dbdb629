"""Orders as their owner reads them. Every query names the tenant."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from domain.errors import NotFound
from domain.stretch import Stretch
from domain.tables.orders import order_lines, orders


def get_order(tx: Connection, tenant_id: UUID, order_id: UUID) -> Row[Any]:
    """One order. Raises NotFound, also for another tenant's."""
    row = tx.execute(select(orders).where(orders.c.tenant_id == tenant_id, orders.c.id == order_id)).first()
    if row is None:
        raise NotFound(resource="Order")
    return row


def list_orders(tx: Connection, tenant_id: UUID, stretch: Stretch, *, status: str | None = None) -> Sequence[Row[Any]]:
    """A stretch of the orders by (created_at, id)."""
    c = orders.c
    query = select(orders).where(c.tenant_id == tenant_id)
    if status is not None:
        query = query.where(c.status == status)
    return tx.execute(stretch.of(query, c.created_at, c.id)).all()


def lines_of(tx: Connection, tenant_id: UUID, order_ids: Sequence[UUID]) -> dict[UUID, list[Row[Any]]]:
    """The lines of these orders by order id, in one query."""
    lines: dict[UUID, list[Row[Any]]] = {order_id: [] for order_id in order_ids}
    c = order_lines.c
    query = select(order_lines).where(c.tenant_id == tenant_id, c.order_id.in_(order_ids)).order_by(c.order_id, c.sku)
    for line in tx.execute(query):
        lines[line.order_id].append(line)
    return lines
