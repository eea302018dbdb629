"""The tenants of a run: their keys, what they sell, and for each the one endpoint that stands from first to last."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from domain.tenants.keys import create_key
from domain.tenants.plan_rules import UNLIMITED
from domain.tenants.tenants import ensure_tenant
from ops.chaos.clients import Client
from ops.chaos.errands import subscribe
from ops.chaos.history import Endpoint, Posted, Tenant
from ops.chaos.system import ChaosFailed, System

TENANTS, PLENTY, SCARCE = 3, 8, 2
MUCH_STOCK, LITTLE_STOCK = 10_000_000, 40
#: Of whatever is sold, in dollars.
NAME, PRICE = "Thing", Decimal("9.5")


def settle_in(running: System, client: Client) -> tuple[list[Tenant], list[Endpoint]]:
    """Everybody can order, and hears of it. Raises ChaosFailed."""
    scarce, plenty = [f"SCARCE-{each}" for each in range(SCARCE)], [f"PLENTY-{each}" for each in range(PLENTY)]
    tenants = [make_tenant(running, f"tenant-{number}", scarce, plenty) for number in range(TENANTS)]
    for tenant in tenants:
        _stock(client, tenant)
    endpoints = [subscribe(client, tenant, tenant.name, running.webhook_port) for tenant in tenants]
    if not all(endpoint.id for endpoint in endpoints):
        raise ChaosFailed("no endpoint could be made")
    return tenants, endpoints


def make_tenant(running: System, name: str, scarce: list[str], plenty: list[str]) -> Tenant:
    """It has its keys, and no product yet. Raises DBAPIError."""
    with running.engine.begin() as tx:
        tenant_id = ensure_tenant(tx, name, UNLIMITED)
        api_key = create_key(tx, tenant_id, "api", ["api"])
        admin_key = create_key(tx, tenant_id, "admin", ["api", "admin"])
    return Tenant(str(tenant_id), name, api_key, admin_key, scarce, plenty)


def total_of(posted: Posted) -> Decimal:
    """What an order costs, in dollars."""
    return sum(posted.lines.values()) * PRICE


def product_of(sku: str, stock: int) -> dict[str, object]:
    """What is posted to sell it."""
    return {"sku": sku, "name": NAME, "price": float(PRICE), "stock": stock}


def _stock(client: Client, tenant: Tenant) -> None:
    for sku in tenant.scarce + tenant.plenty:
        stock = LITTLE_STOCK if sku in tenant.scarce else MUCH_STOCK
        body = msgspec.json.encode(product_of(sku, stock))
        status, said = client.call("POST", "/products", tenant.admin_key, body)
        if status != 201:
            raise ChaosFailed(f"no product could be made: {status} {said[:200]!r}")
        tenant.product_ids[sku] = msgspec.json.decode(said)["data"]["id"]


def secrets_of(running: System, tenants: Sequence[Tenant], endpoints: Sequence[Endpoint]) -> list[str]:
    """What no log may ever say."""
    keys = [key for tenant in tenants for key in (tenant.api_key, tenant.admin_key)]
    own = [running.environ["SECRET_KEY"], running.stack.postgresql.password]
    return [*keys, *own, *(endpoint.secret for endpoint in endpoints if endpoint.secret)]
