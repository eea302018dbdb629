"""Products of a tenant: what can be ordered, at which price, with how much stock."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.errors import BodyInvalid, DuplicateResource, NotFound, Violation
from domain.ids import new_id
from domain.inventory.stock import Movement, move_stock
from domain.money_rules import to_minor
from domain.stretch import Stretch
from domain.tables.catalogue import products
from domain.tables.inventory import stock
from domain.versions import check_version

_WITH_STOCK: Select[Any] = select(
    products.c.id,
    products.c.sku,
    products.c.name,
    products.c.price,
    products.c.currency,
    products.c.version,
    products.c.created_at,
    stock.c.on_hand,
    stock.c.reserved,
).join(stock, (stock.c.tenant_id == products.c.tenant_id) & (stock.c.sku == products.c.sku))


def create_product(
    tx: Connection, tenant_id: UUID, *, sku: str, name: str, price: int, currency: str, units: int
) -> Row[Any]:
    """A product with `units` on hand; `price` in minor units. Raises DuplicateResource when the SKU is taken."""
    product_id = new_id()
    row = {"id": product_id, "tenant_id": tenant_id, "sku": sku, "name": name, "price": price, "currency": currency}
    created = tx.execute(upsert(products).values(row).on_conflict_do_nothing().returning(products.c.id)).scalar()
    if created is None:
        raise DuplicateResource(resource="Product", key=sku)
    tx.execute(insert(stock).values(tenant_id=tenant_id, sku=sku))
    if units:
        move_stock(tx, [Movement(new_id(), tenant_id, sku, units, 0, "received")])
    return get_product(tx, tenant_id, product_id)


def get_product(tx: Connection, tenant_id: UUID, product_id: UUID) -> Row[Any]:
    """One product with its stock. Raises NotFound, also for another tenant's."""
    row = tx.execute(_WITH_STOCK.where(products.c.tenant_id == tenant_id, products.c.id == product_id)).first()
    if row is None:
        raise NotFound(resource="Product")
    return row


class ProductChange(msgspec.Struct, frozen=True):
    """What shall be different of a product; None stays as it is. `price` in major units of its currency."""

    name: str | None = None
    price: Decimal | None = None


def change_product(
    tx: Connection, tenant_id: UUID, product_id: UUID, wanted: ProductChange, seen: Collection[int] | None
) -> tuple[Row[Any], Row[Any]]:
    """The product before and after; one version further unless it was as wanted already.

    Raises NotFound, VersionConflict when it is at no version that was `seen`, BodyInvalid for a price that its currency
    does not have.
    """
    c = products.c
    it = (c.tenant_id == tenant_id) & (c.id == product_id)
    before = tx.execute(select(products).where(it).with_for_update(key_share=True)).first()
    if before is None:
        raise NotFound(resource="Product")
    check_version("The product", before.version, seen)
    price = None if wanted.price is None else minor_price(wanted.price, before.currency)
    values = {"name": wanted.name, "price": price}
    changes = {name: value for name, value in values.items() if value not in {None, before._mapping[name]}}
    if changes:
        tx.execute(update(products).where(it).values(**changes, version=c.version + 1))
    return before, get_product(tx, tenant_id, product_id)


def product_facts(row: Row[Any]) -> dict[str, Any]:
    """What the audit log is told of a product, its price in minor units."""
    return {"name": row.name, "price": row.price}


def minor_price(price: Decimal, currency: str) -> int:
    """A price in minor units. Raises BodyInvalid for one that the currency does not have."""
    try:
        return to_minor(price, currency)
    except ValueError as error:
        raise BodyInvalid(violations=[Violation("price", str(error), "OUT_OF_RANGE")]) from error


def list_products(
    tx: Connection, tenant_id: UUID, stretch: Stretch, *, search: str | None = None, before: int = 0
) -> Sequence[Row[Any]]:
    """A stretch of the products by id, with their stock: those that have `search` in their names, but the first ones.

    How many are left out so is `before`.
    """
    query = _WITH_STOCK.where(products.c.tenant_id == tenant_id, *_named(search)).offset(before)
    return tx.execute(stretch.of(query, products.c.id)).all()


def count_products(tx: Connection, tenant_id: UUID, *, search: str | None = None) -> int:
    """How many products have `search` in their names."""
    count = select(func.count()).select_from(products)
    return tx.execute(count.where(products.c.tenant_id == tenant_id, *_named(search))).scalar_one()


def _named(search: str | None) -> list[ColumnElement[bool]]:
    """Taken as it is written: `%` and `_` mean themselves."""
    return [] if search is None else [products.c.name.icontains(search, autoescape=True)]
