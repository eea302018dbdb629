"""Every error of the API is one body: problem details and envelope, in the media type asked for, telling nothing."""

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response
from sqlalchemy.exc import OperationalError

import api.ingress
import api.routes.orders
from api.envelope import CODES
from domain.errors import LongshoreError
from domain.tenants.keys import create_key
from tests.integration.api.shop import Customer, error_of

SECRETIVE = 'connection to "postgresql://longshore:hunter2@db.internal:5432" failed: SELECT * FROM orders'

Refused = Callable[[Customer, dict[str, str]], Response]


def _post(path: str, raw: bytes, **more: str) -> Refused:
    def send(customer: Customer, headers: dict[str, str]) -> Response:
        typed = {"Content-Type": "application/json", **more, **headers}
        return customer.send("POST", path, content=raw, headers=typed)

    return send


def _send(method: str, path: str) -> Refused:
    return lambda customer, headers: customer.send(method, path, headers=headers)


def _anonymous(customer: Customer, headers: dict[str, str]) -> Response:
    return customer.shop.client.get("/api/v1/orders", headers=headers)


def _with_less_scope(customer: Customer, headers: dict[str, str]) -> Response:
    with customer.shop.engine.begin() as tx:
        key = create_key(tx, customer.tenant_id, "less", ["api"])
    return customer.send("GET", "/api/v1/admin/dead-letters", headers={**headers, "X-API-Key": key})


def _twice(customer: Customer, headers: dict[str, str]) -> Response:
    raw = b'{"sku":"MUG","name":"Mug","price":1}'
    return [_post("/api/v1/products", raw)(customer, headers) for _ in range(2)][1]


def _broken(customer: Customer, headers: dict[str, str]) -> Response:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.routes.orders, "list_orders", _raises(RuntimeError(SECRETIVE)))
        return customer.get("/orders", headers=headers)


def _database_away(customer: Customer, headers: dict[str, str]) -> Response:
    with pytest.MonkeyPatch.context() as patch:
        error = OperationalError("SELECT 1", {"password": "hunter2"}, Exception(SECRETIVE))
        patch.setattr(api.routes.orders, "list_orders", _raises(error))
        return customer.get("/orders", headers=headers)


def _overloaded(customer: Customer, headers: dict[str, str]) -> Response:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.ingress, "MOST_WAITING", 0)
        named: dict[str, Any] = {name.replace("-", "_"): value for name, value in headers.items()}
        return customer.order(**named)


def _raises(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


CASES: list[tuple[int, str, Refused]] = [
    (400, "MALFORMED_JSON", _post("/api/v1/orders", b"{bad")),
    (400, "VALIDATION_ERROR", _send("GET", "/api/v1/orders?limit=500")),
    (400, "VALIDATION_ERROR", _send("GET", "/api/v1/orders/not-a-uuid")),
    (400, "INVALID_CURSOR", _send("GET", "/api/v1/orders?cursor=bm8")),
    (401, "UNAUTHENTICATED", _anonymous),
    (403, "FORBIDDEN", _with_less_scope),
    (404, "NOT_FOUND", _send("GET", "/nope")),
    (404, "NOT_FOUND", _send("GET", "/orders")),
    (404, "NOT_FOUND", _send("GET", f"/api/v1/orders/{uuid4()}")),
    (404, "NOT_FOUND", _send("GET", "/api-docs/no-such-page")),
    (404, "NOT_FOUND", _send("GET", "/errors/NO_SUCH_CODE")),
    (405, "METHOD_NOT_ALLOWED", _send("DELETE", "/api/v1/orders")),
    (409, "DUPLICATE_RESOURCE", _twice),
    (413, "PAYLOAD_TOO_LARGE", _post("/api/v1/orders", b" " * 10_000_000)),
    (415, "UNSUPPORTED_MEDIA_TYPE", _post("/api/v1/orders", b"{}", **{"Content-Type": "text/plain"})),
    (422, "VALIDATION_ERROR", _post("/api/v1/orders", b"{}")),
    (500, "INTERNAL_ERROR", _broken),
    (503, "DEPENDENCY_UNAVAILABLE", _database_away),
    (503, "OVERLOADED", _overloaded),
]
HEADERS = {401: ("WWW-Authenticate", "Bearer"), 405: ("Allow", "POST"), 503: ("Retry-After", "1")}


@pytest.mark.parametrize(
    ("status", "code", "refused"), CASES, ids=[f"{code}-{number}" for number, (_, code, _) in enumerate(CASES)]
)
def test_every_error_has_one_body_in_the_media_type_asked_for(
    customer: Customer, status: int, code: str, refused: Refused
) -> None:
    problem, plain = "application/problem+json", "application/json"
    for accept, expected in (
        (None, problem),
        (plain, plain),
        (problem, problem),
        (f"{plain}, {problem}", problem),
        ("application/json, */*;q=0.1", problem),
        ("text/html, */*;q=0.1", problem),
    ):
        response = refused(customer, {"Accept": accept} if accept else {})
        error_of(response, status, code)
        assert response.headers["Content-Type"] == expected, accept
        if status in HEADERS:
            name, part = HEADERS[status]
            assert part in response.headers[name]


def test_the_errors_of_this_table_cover_every_status_that_the_api_promises() -> None:
    statuses = {status for status, _, _ in CASES}
    assert statuses == {400, 401, 403, 404, 405, 409, 413, 415, 422, 500, 503}


def test_the_schema_refuses_a_body_that_is_not_whole() -> None:
    response = Response(404, json={"status": 404, "error": {"code": "NOT_FOUND"}})
    with pytest.raises(Exception, match="required property"):
        error_of(response, 404, "NOT_FOUND")


def test_the_type_of_every_error_resolves_to_its_meaning(customer: Customer) -> None:
    listed = {row["code"]: row for row in customer.send("GET", "/errors").json()["data"]}
    assert set(listed) == set(CODES)
    for code, row in listed.items():
        found = customer.send("GET", f"/errors/{code}").json()
        assert found == {"success": True, "data": row}
        assert row["status"] == CODES[code].status
        assert re.fullmatch(r"[A-Z][A-Z_]+", code)


def test_every_exception_of_the_domain_has_a_status() -> None:
    def tree(kind: type[LongshoreError]) -> list[type[LongshoreError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    kinds = tree(LongshoreError)
    assert len(kinds) > 10
    assert [kind.__name__ for kind in kinds if kind.code not in CODES or not kind.__doc__] == []


def test_a_401_is_answered_before_anything_else_of_the_request_is_judged(customer: Customer) -> None:
    for content, headers in (
        (b"{bad", {"Content-Type": "application/json"}),
        (b"{}", {"Content-Type": "application/json"}),
        (b"{}", {"Content-Type": "text/plain"}),
        (b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
    ):
        response = customer.shop.client.post("/api/v1/orders?bogus=1", content=content, headers=headers)
        error_of(response, 401, "UNAUTHENTICATED")


def test_a_403_is_answered_before_the_body_is_judged(customer: Customer) -> None:
    with customer.shop.engine.begin() as tx:
        key = create_key(tx, customer.tenant_id, "less", ["api"])
    error = error_of(customer.post("/products", raw=b"{bad", X_API_Key=key), 403, "FORBIDDEN")
    assert "products:write" in error["message"]
    assert customer.get("/products", headers={"X-API-Key": key}).status_code == 200
