"""The law of stock in plain Python, and the acts that are held against it: reserve, release, ship, adjust, give up.

Unlike lives, orders that meet at a SKU are not each other's strangers: an outcome is that of the whole shop.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Connection

from domain.errors import InsufficientStock
from domain.ids import new_id
from domain.inventory.reservations import Results, release, reserve, ship
from domain.inventory.stock import adjust_stock
from domain.orders.transitions import fail_if_accepted


class Shop(NamedTuple):
    """Units on hand and reserved by SKU, and the status of each order."""

    on_hand: Mapping[str, int]
    reserved: Mapping[str, int]
    statuses: Mapping[UUID, str]

    def decided(self, order_id: UUID, status: str) -> "Shop":
        return self._replace(statuses={**self.statuses, order_id: status})

    def moved(self, units: Mapping[str, int], on_hand: int, reserved: int) -> "Shop":
        """So many times these units more on hand, and reserved."""
        return self._replace(
            on_hand={sku: count + on_hand * units.get(sku, 0) for sku, count in self.on_hand.items()},
            reserved={sku: count + reserved * units.get(sku, 0) for sku, count in self.reserved.items()},
        )

    def has(self, units: Mapping[str, int]) -> bool:
        return all(self.on_hand[sku] - self.reserved[sku] >= count for sku, count in units.items())


class Deed(Protocol):
    """`run` is the product, `law` what it must come to: the answer and the shop after it."""

    def run(self, tx: Connection) -> object: ...
    def law(self, shop: Shop) -> tuple[object, Shop]: ...


class _OfOrders:
    def __init__(self, tenant_id: UUID, orders: Mapping[UUID, Mapping[str, int]]) -> None:
        self._tenant_id, self._orders = tenant_id, orders

    def _asked(self) -> tuple[dict[UUID, UUID], dict[UUID, UUID], dict[UUID, None]]:
        job_of = {order_id: new_id() for order_id in self._orders}
        return job_of, dict.fromkeys(self._orders, self._tenant_id), dict.fromkeys(self._orders)

    def law(self, shop: Shop) -> tuple[object, Shop]:
        for order_id in sorted(self._orders):
            shop = self._one(shop, order_id, self._orders[order_id])
        return {order_id: shop.statuses[order_id] for order_id in self._orders}, shop

    def _one(self, shop: Shop, order_id: UUID, units: Mapping[str, int]) -> Shop:
        raise NotImplementedError


class Reserve(_OfOrders):
    def run(self, tx: Connection) -> object:
        return _told(reserve(tx, *self._asked()))

    def _one(self, shop: Shop, order_id: UUID, units: Mapping[str, int]) -> Shop:
        if shop.statuses[order_id] not in {"accepted", "failed"}:
            return shop
        if not shop.has(units):
            return shop.decided(order_id, "rejected")
        return shop.decided(order_id, "confirmed").moved(units, 0, 1)


class Release(_OfOrders):
    def run(self, tx: Connection) -> object:
        return _told(release(tx, *self._asked()))

    def _one(self, shop: Shop, order_id: UUID, units: Mapping[str, int]) -> Shop:
        match shop.statuses[order_id]:
            case "confirmed":
                return shop.decided(order_id, "cancelled").moved(units, 0, -1)
            case "failed":
                return shop.decided(order_id, "cancelled")
            case _:
                return shop


class Ship(_OfOrders):
    def run(self, tx: Connection) -> object:
        return _told(ship(tx, *self._asked()))

    def _one(self, shop: Shop, order_id: UUID, units: Mapping[str, int]) -> Shop:
        if shop.statuses[order_id] != "confirmed":
            return shop
        return shop.decided(order_id, "completed").moved(units, -1, -1)


class GiveUp(_OfOrders):
    """Their root jobs are dead."""

    def run(self, tx: Connection) -> object:
        fail_if_accepted(tx, {(self._tenant_id, order_id): "RESERVATION_DEAD" for order_id in sorted(self._orders)})
        return None

    def law(self, shop: Shop) -> tuple[object, Shop]:
        return None, super().law(shop)[1]

    def _one(self, shop: Shop, order_id: UUID, units: Mapping[str, int]) -> Shop:  # noqa: ARG002  # as its siblings
        return shop.decided(order_id, "failed") if shop.statuses[order_id] == "accepted" else shop


class Adjust:
    def __init__(self, tenant_id: UUID, sku: str, delta: int) -> None:
        self._tenant_id, self._sku, self._delta = tenant_id, sku, delta

    def run(self, tx: Connection) -> object:
        try:
            adjust_stock(tx, self._tenant_id, self._sku, self._delta)
        except InsufficientStock:
            return "refused"
        return "done"

    def law(self, shop: Shop) -> tuple[object, Shop]:
        if shop.on_hand[self._sku] - shop.reserved[self._sku] + self._delta < 0:
            return "refused", shop
        return "done", shop.moved({self._sku: self._delta}, 1, 0)


def _told(results: Results) -> dict[UUID, str]:
    words = {"INSUFFICIENT_STOCK": "rejected"}
    codes = {order_id: result["code"] for order_id, result in results.items()}
    return {order_id: words.get(code, code.removeprefix("ORDER_").lower()) for order_id, code in codes.items()}


def serial(deeds: Sequence[Deed], shop: Shop, order: Sequence[int]) -> tuple[list[object], Shop]:
    """What the deeds come to, one after the other in this order; the answers as the deeds were given."""
    answers: list[object] = [None] * len(deeds)
    for number in order:
        answers[number], shop = deeds[number].law(shop)
    return answers, shop
