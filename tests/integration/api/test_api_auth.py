"""Who may come in: keys in either header, and nobody with a key that is missing, junk, expired or revoked."""

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from httpx import Response
from litestar.routes import HTTPRoute

import api.ring
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts, format_key
from domain.tenants.keys import create_key, revoke_key
from domain.tenants.permission_rules import (
    ANYBODY,
    DEAD_LETTERS_READ,
    JOBS_READ,
    ORDERS_READ,
    PERMISSIONS,
    PRODUCTS_READ,
    REPORTS_READ,
    USERS_READ,
    WEBHOOKS_READ,
)
from tests.integration.api.shop import V1, Customer, Shop, error_of, fields_of


def _status(shop: Shop, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = shop.client.get("/api/v1/orders", headers=named)
    if response.status_code != 200:
        error_of(response, 401, "UNAUTHENTICATED")
        why = ', error="invalid_token"' if {"X-API-Key", "Authorization"} & set(named) else ""
        assert response.headers["WWW-Authenticate"] == f'Bearer realm="api"{why}'
    return response.status_code


def test_a_key_opens_in_either_header(customer: Customer) -> None:
    shop, key = customer.shop, customer.key
    assert _status(shop, X_API_Key=key) == 200
    assert _status(shop, Authorization=f"Bearer {key}") == 200
    assert _status(shop, Authorization=f"bearer   {key} ") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X_API_Key": ""},
        {"X_API_Key": "junk"},
        {"X_API_Key": "Bearer {key}"},
        {"X_API_Key": "{key}x"},
        {"X_API_Key": "junk", "Authorization": "Bearer {key}"},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer junk"},
        {"Authorization": "Basic {key}"},
        {"Authorization": "{key}"},
        {"Cookie": "X-API-Key={key}"},
    ],
    ids=str,
)
def test_anything_else_opens_nothing(customer: Customer, headers: dict[str, str]) -> None:
    assert _status(customer.shop, **{name: value.format(key=customer.key) for name, value in headers.items()}) == 401


def test_a_key_in_the_query_opens_nothing(customer: Customer) -> None:
    assert customer.shop.client.get(f"/api/v1/orders?api_key={customer.key}").status_code == 401


def test_a_well_formed_key_that_nobody_made_opens_nothing(customer: Customer) -> None:
    assert _status(customer.shop, X_API_Key=format_key(b"strang", b"e" * 32)) == 401


def test_the_id_of_a_key_with_another_secret_opens_nothing(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    with customer.shop.engine.begin() as tx:
        monkeypatch.setattr("os.urandom", lambda size: b"k" * size)
        create_key(tx, customer.tenant_id, "known id", ["api"])
    monkeypatch.undo()
    assert _status(customer.shop, X_API_Key=format_key(b"k" * 6, b"k" * 32)) == 200
    assert _status(customer.shop, X_API_Key=format_key(b"k" * 6, b"x" * 32)) == 401


def test_an_expired_key_opens_nothing(customer: Customer) -> None:
    now = datetime.now(UTC)
    with customer.shop.engine.begin() as tx:
        old = create_key(tx, customer.tenant_id, "old", ["api"], now - timedelta(seconds=1))
        young = create_key(tx, customer.tenant_id, "young", ["api"], now + timedelta(hours=1))
    assert _status(customer.shop, X_API_Key=old) == 401
    assert _status(customer.shop, X_API_Key=young) == 200


def test_a_revoked_key_opens_nothing_once_it_is_no_longer_remembered(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.4)
    assert _status(customer.shop, X_API_Key=customer.key) == 200
    with customer.shop.engine.begin() as tx:
        revoke_key(tx, customer.key.split("_")[2])
    revoked_at = time.monotonic()
    while _status(customer.shop, X_API_Key=customer.key) == 200:
        assert time.monotonic() - revoked_at < 2.0
    assert time.monotonic() - revoked_at >= 0.2
    assert _status(customer.shop, X_API_Key=customer.key) == 401


def test_a_key_is_remembered_for_seconds_only() -> None:
    assert 0 < api.ring.REMEMBER_S <= 5.0


def test_every_business_route_names_the_permission_that_it_takes(shop: Shop) -> None:
    named = {
        (method, route.path_format): handler.opt.get("permission")
        for route in shop.client.app.routes
        if isinstance(route, HTTPRoute) and route.path_format.startswith(f"{V1}/")
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS" and route.path_format != f"{V1}/health"
    }
    before = ("login", "refresh", "password-reset", "password-reset/confirm")
    assert {route for route, permission in named.items() if permission is None} == {
        ("POST", f"{V1}/auth/{name}") for name in before
    }
    mine = {("GET", f"{V1}/users/me"), ("POST", f"{V1}/auth/logout")}
    assert {route for route, permission in named.items() if permission == ANYBODY} == mine
    named = {route: name for route, name in named.items() if name is not None and route not in mine}
    assert set(named.values()) <= PERMISSIONS
    reads = {str(permission) for (method, _), permission in named.items() if method == "GET"}
    assert all(permission.endswith(":read") for permission in reads)
    assert not {permission for (method, _), permission in named.items() if method != "GET"} & reads


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_a_key_of_one_permission_may_do_that_and_nothing_else(customer: Customer, permission: str) -> None:
    with customer.shop.engine.begin() as tx:
        key = create_key(tx, customer.tenant_id, "narrow", [permission])
    for path, needed in (
        ("/orders", ORDERS_READ),
        ("/jobs", JOBS_READ),
        ("/products", PRODUCTS_READ),
        ("/reports", REPORTS_READ),
        ("/webhook-endpoints", WEBHOOKS_READ),
        ("/admin/dead-letters", DEAD_LETTERS_READ),
        ("/users", USERS_READ),
    ):
        response = customer.send("GET", V1 + path, headers={"X-API-Key": key})
        assert response.status_code == (200 if needed == permission else 403), (path, response.text)


def test_a_caller_may_name_his_own_tenant_and_no_other(customer: Customer, other: Customer) -> None:
    def named(tenant: object) -> Response:
        return customer.send("GET", f"{V1}/orders", headers={"X-Tenant-ID": str(tenant)})

    assert named(customer.tenant_id).status_code == 200
    error_of(named(other.tenant_id), 403, "TENANT_MISMATCH")
    error_of(named(uuid4()), 403, "TENANT_MISMATCH")
    assert fields_of(error_of(named("acme"), 400, "VALIDATION_ERROR")) == ["X-Tenant-ID"]
    response = customer.shop.client.get(f"{V1}/orders", headers={"X-Tenant-ID": str(customer.tenant_id)})
    error_of(response, 401, "UNAUTHENTICATED")


def test_a_suspended_tenant_is_turned_away_until_it_is_active(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
    assert customer.get("/orders").status_code == 200
    customer.shop.scalar("UPDATE tenants SET status = 'suspended' WHERE id = :id RETURNING 1", id=customer.tenant_id)
    error_of(customer.get("/orders"), 403, "TENANT_SUSPENDED")
    error_of(customer.order(), 403, "TENANT_SUSPENDED")
    customer.shop.scalar("UPDATE tenants SET status = 'active' WHERE id = :id RETURNING 1", id=customer.tenant_id)
    assert customer.get("/orders").status_code == 200


def test_that_a_tenant_is_suspended_is_looked_up_once_in_a_while_only(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    ring = customer.shop.client.app.state.key_ring
    find = ring._find

    def counted(parts: KeyParts) -> Caller | None:
        nonlocal looks
        looks += 1
        found: Caller | None = find(parts)
        return found

    monkeypatch.setattr(ring, "_find", counted)
    monkeypatch.setattr(api.ring, "REMEMBER_S", 3600.0)
    customer.shop.scalar("UPDATE tenants SET status = 'suspended' WHERE id = :id RETURNING 1", id=customer.tenant_id)
    for _ in range(5):
        error_of(customer.get("/orders"), 403, "TENANT_SUSPENDED")
    assert looks == 1


def test_only_the_scope_admin_may_change_the_catalogue_and_read_the_dead(customer: Customer) -> None:
    product_id = customer.stocked()
    with customer.shop.engine.begin() as tx:
        key = create_key(tx, customer.tenant_id, "clerk", ["api"])
    for method, path, body in (
        ("POST", "/api/v1/products", {"sku": "A", "name": "A", "price": 1}),
        ("POST", f"/api/v1/products/{product_id}/stock-adjustments", {"delta": 1}),
        ("GET", "/api/v1/admin/dead-letters", None),
        ("GET", f"/api/v1/admin/dead-letters/{product_id}", None),
    ):
        options = {"json": body} if body else {}
        before = customer.rows()
        response = customer.send(method, path, headers={"X-API-Key": key}, **options)
        assert "which you lack" in error_of(response, 403, "FORBIDDEN")["message"]
        assert customer.rows() == before
    assert customer.order(X_API_Key=key).status_code == 202
