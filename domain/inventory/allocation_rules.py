"""Who gets the stock: first come, first served, each order whole or not at all. Pure."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

#: (tenant id, sku)
StockKey = tuple[UUID, str]


class Demand(msgspec.Struct, frozen=True):
    """What one order asks for, units by stock key."""

    order_id: UUID
    wanted: Mapping[StockKey, int]


class Allocation(msgspec.Struct, frozen=True):
    """`short` is the first SKU that could not be served, None when the order gets everything it asks for."""

    order_id: UUID
    short: str | None = None


def allocate(free: Mapping[StockKey, int], demands: Sequence[Demand]) -> list[Allocation]:
    """One allocation per demand, in order. An order that comes up short takes nothing and leaves the rest to others."""
    left = dict(free)
    allocations = []
    for demand in demands:
        short = next((key[1] for key, units in demand.wanted.items() if left.get(key, 0) < units), None)
        if short is None:
            for key, units in demand.wanted.items():
                left[key] -= units
        allocations.append(Allocation(demand.order_id, short))
    return allocations
