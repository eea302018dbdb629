"""Products and their stock: what can be ordered. Only keys with the scope `admin` change them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Connection, Row

from api.bodies import Body, Currency, Name, Sku
from api.conditions import IfMatch, entity_tag, versions_seen
from api.envelope import Page, Success
from api.once import Once
from api.pages import Listing, PageNumber
from api.requests import origin
from api.tenant_database import TenantDatabase
from domain.audit import difference, record_act
from domain.catalogue.products import (
    ProductChange,
    change_product,
    count_products,
    create_product,
    get_product,
    list_products,
    minor_price,
    product_facts,
)
from domain.inventory.stock import adjust_stock
from domain.money_rules import to_major
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import PRODUCTS_READ, PRODUCTS_WRITE

Search = Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=100, required=False, description="A part of the name, in any case"),
]
Units = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Delta = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]
Price = Annotated[float, Meta(ge=0, le=1_000_000_000)]


class NewProduct(Body, frozen=True):
    """A product; `price` in major units of `currency`, `stock` in units on hand."""

    sku: Sku
    name: Name
    price: Price
    stock: Units = 0
    currency: Currency = "USD"


class ProductChanges(Body, frozen=True):
    """What shall be different; what is left out stays as it is. Orders keep the price at which they were posted."""

    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET


class Adjustment(Body, frozen=True):
    """So many units more on hand, or fewer when negative."""

    delta: Delta


class StockView(Struct, rename="camel"):
    """Units: on the shelf, promised to orders, and free."""

    on_hand: int
    reserved: int
    available: int


class ProductView(Struct, rename="camel"):
    """One product with its stock."""

    id: UUID
    sku: str
    name: str
    price: float
    currency: str
    stock: StockView
    version: int
    created_at: datetime


@post("/", summary="Create a product", permission=PRODUCTS_WRITE, sync_to_thread=True)
def post_product(
    request: Request[Caller, Any, Any],
    data: JSONBody[NewProduct],
    once: NamedDependency[Once],
) -> Response[Success[ProductView]]:
    """201 with the product; 409 when its SKU is taken."""
    price = minor_price(Decimal(repr(data.price)), data.currency)

    def create(tx: Connection) -> Response[Success[ProductView]]:
        row = create_product(
            tx,
            request.user.tenant_id,
            sku=data.sku,
            name=data.name,
            price=price,
            currency=data.currency,
            units=data.stock,
        )
        _record(tx, request, "product.created", row.id, {"new": {"sku": row.sku, **product_facts(row)}})
        return _created(row)

    return once.answer(data, create)


@get("/", summary="List products", permission=PRODUCTS_READ, sync_to_thread=True)
def get_products(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
    page: PageNumber = None,
    search: Search = None,
) -> Response[Page[ProductView]]:
    """The tenant's products with their stock, by cursor or by the number of a page."""
    if page is None:
        stretch = listing.stretch()
        with database.connect() as connection:
            return listing.page(list_products(connection, caller.tenant_id, stretch, search=search), _show)
    stretch, before = listing.numbered_stretch(page)
    with database.connect() as connection:
        rows = list_products(connection, caller.tenant_id, stretch, search=search, before=before)
        total = count_products(connection, caller.tenant_id, search=search)
    return listing.numbered_page(page, total, rows, _show)


@get("/{product_id:str}", summary="Read a product", permission=PRODUCTS_READ, sync_to_thread=True)
def get_one_product(
    product_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Response[Success[ProductView]]:
    """One product with its stock."""
    with database.connect() as connection:
        row = get_product(connection, caller.tenant_id, product_id)
    return Response(Success(data=_show(row)), headers={"ETag": _entity_tag(row)})


@patch("/{product_id:str}", summary="Change a product", permission=PRODUCTS_WRITE, sync_to_thread=True)
def patch_product(
    request: Request[Caller, Any, Any],
    product_id: FromPath[UUID],
    data: JSONBody[ProductChanges],
    database: NamedDependency[TenantDatabase],
    if_match: IfMatch = None,
) -> Response[Success[ProductView]]:
    """The product as it is then. Its old and new values stand in the audit log."""
    price = None if data.price is UNSET else Decimal(repr(data.price))
    wanted = ProductChange(data.name or None, price)
    with database.begin() as tx:
        before, row = change_product(tx, request.user.tenant_id, product_id, wanted, versions_seen(if_match))
        if facts := difference(product_facts(before), product_facts(row)):
            _record(tx, request, "product.changed", product_id, facts)
    return Response(Success(data=_show(row)), headers={"ETag": _entity_tag(row)})


@post(
    "/{product_id:str}/stock-adjustments",
    summary="Adjust a product's stock",
    permission=PRODUCTS_WRITE,
    status_code=201,
    sync_to_thread=True,
)
def post_adjustment(
    product_id: FromPath[UUID],
    data: JSONBody[Adjustment],
    caller: NamedDependency[Caller],
    once: NamedDependency[Once],
) -> Response[Success[ProductView]]:
    """The product after the adjustment; 422 when fewer units than that are free."""

    def adjust(tx: Connection) -> Response[Success[ProductView]]:
        product = get_product(tx, caller.tenant_id, product_id)
        adjust_stock(tx, caller.tenant_id, product.sku, data.delta)
        return _created(get_product(tx, caller.tenant_id, product_id))

    return once.answer(data, adjust)


def _created(row: Row[Any]) -> Response[Success[ProductView]]:
    headers = {"Location": f"/api/v1/products/{row.id}", "ETag": _entity_tag(row)}
    return Response(Success(data=_show(row)), status_code=201, headers=headers)


def _entity_tag(row: Row[Any]) -> str:
    return entity_tag(row.version, [row.on_hand, row.reserved])  # stock moves without its product


def _record(
    tx: Connection, request: Request[Caller, Any, Any], action: str, product_id: UUID, facts: dict[str, Any]
) -> None:
    caller = request.user
    record_act(tx, caller.tenant_id, caller.name, action, str(product_id), detail={**facts, **origin(request)})


def _show(row: Row[Any]) -> ProductView:
    return ProductView(
        id=row.id,
        sku=row.sku,
        name=row.name,
        price=float(to_major(row.price, row.currency)),
        currency=row.currency,
        stock=StockView(row.on_hand, row.reserved, row.on_hand - row.reserved),
        version=row.version,
        created_at=row.created_at,
    )


router = Router(
    "/products",
    route_handlers=[post_product, get_products, get_one_product, patch_product, post_adjustment],
    tags=["Products"],
)
