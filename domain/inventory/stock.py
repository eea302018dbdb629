"""Moves of stock: counters and ledger written together, so that the ledger always sums to the counters."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.errors import BodyInvalid, InsufficientStock, NotFound, Violation
from domain.ids import new_id
from domain.inventory.allocation_rules import StockKey
from domain.jobs.outbox import columns

#: What the column holds.
MOST_ON_HAND = 2**31 - 1


class Movement(msgspec.Struct, frozen=True):
    """One line of the ledger. `reason`: received, adjusted, reserved, released or shipped."""

    id: UUID
    tenant_id: UUID
    sku: str
    on_hand_delta: int
    reserved_delta: int
    reason: str
    order_id: UUID | None = None
    job_id: UUID | None = None


# NO KEY UPDATE: inserts that reference the row take a KEY SHARE lock, which it does not block.
_LOCK = text(
    """
    SELECT s.tenant_id, s.sku, s.on_hand - s.reserved FROM stock AS s
      JOIN unnest(CAST(:tenants AS uuid[]), CAST(:skus AS text[])) AS t(tenant_id, sku)
        ON s.tenant_id = t.tenant_id AND s.sku = t.sku
     ORDER BY s.tenant_id, s.sku FOR NO KEY UPDATE OF s
    """
)
_APPLY = text(
    """
    UPDATE stock SET on_hand = on_hand + m.on_hand_delta, reserved = reserved + m.reserved_delta
      FROM (SELECT tenant_id, sku, sum(on_hand_delta) AS on_hand_delta, sum(reserved_delta) AS reserved_delta
              FROM unnest(CAST(:tenant_id AS uuid[]), CAST(:sku AS text[]), CAST(:on_hand_delta AS int[]),
                          CAST(:reserved_delta AS int[])) AS u(tenant_id, sku, on_hand_delta, reserved_delta)
             GROUP BY tenant_id, sku) AS m
     WHERE stock.tenant_id = m.tenant_id AND stock.sku = m.sku
    """
)
_RECORD = text(
    """
    INSERT INTO stock_ledger (id, tenant_id, sku, on_hand_delta, reserved_delta, reason, order_id, job_id)
    SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:sku AS text[]),
                         CAST(:on_hand_delta AS int[]), CAST(:reserved_delta AS int[]), CAST(:reason AS text[]),
                         CAST(:order_id AS uuid[]), CAST(:job_id AS uuid[]))
    """
)


def lock_stock(tx: Connection, keys: Sequence[StockKey]) -> dict[StockKey, int]:
    """Units free of each key, locked in sorted order until the caller commits. Keys without stock are missing."""
    wanted = sorted(set(keys))
    bounds = {"tenants": [tenant for tenant, _ in wanted], "skus": [sku for _, sku in wanted]}
    return {(tenant, sku): free for tenant, sku, free in tx.execute(_LOCK, bounds)}


def move_stock(tx: Connection, movements: Sequence[Movement]) -> None:
    """Counters and ledger change by these movements. The caller holds the locks; a CHECK refuses to oversell."""
    if movements:
        rows = columns(movements)
        tx.execute(_APPLY, rows)
        tx.execute(_RECORD, rows)


def adjust_stock(tx: Connection, tenant_id: UUID, sku: str, delta: int, reason: str = "adjusted") -> dict[str, int]:
    """`delta` units more (or fewer) on hand. Answers the stock after it.

    Raises NotFound, InsufficientStock when fewer units than that are free, BodyInvalid when that is beyond counting.
    """
    free = lock_stock(tx, [(tenant_id, sku)]).get((tenant_id, sku))
    if free is None:
        raise NotFound(resource="Product")
    if free + delta < 0:
        raise InsufficientStock(sku=sku, available=free)
    if stock_of(tx, tenant_id, [sku])[sku]["onHand"] + delta > MOST_ON_HAND:
        raise BodyInvalid(violations=[Violation("delta", "leaves more units than can be counted", "OUT_OF_RANGE")])
    move_stock(tx, [Movement(new_id(), tenant_id, sku, delta, 0, reason)])
    return stock_of(tx, tenant_id, [sku])[sku]


def stock_of(tx: Connection, tenant_id: UUID, skus: Sequence[str]) -> Mapping[str, dict[str, int]]:
    """`onHand`, `reserved` and `available` units by SKU."""
    rows: Any = tx.execute(
        text("SELECT sku, on_hand, reserved FROM stock WHERE tenant_id = :tenant_id AND sku = ANY(:skus)"),
        {"tenant_id": tenant_id, "skus": list(skus)},
    )
    return {
        sku: {"onHand": on_hand, "reserved": reserved, "available": on_hand - reserved}
        for sku, on_hand, reserved in rows
    }
