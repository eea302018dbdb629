"""No text does harm: every string of every body, path and query is walked, and none is ever answered with a 500.

The walk reads the OpenAPI document, so a new route is walked without being told.
"""

import copy
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from httpx import Response

from tests.integration.api.shop import V1, Customer, Shop, error_of, fields_of
from tests.integration.api.test_api_bad_input import NAUGHTY

#: What callers have no say in: of the tables' columns, of JavaScript, of ours.
NOT_THEIRS = [
    "id",
    "tenantId",
    "tenant_id",
    "status",
    "state",
    "version",
    "createdAt",
    "total",
    "unitPrice",
    "reserved",
    "role",
    "permissions",
    "scopes",
    "isAdmin",
    "jobId",
    "objectKey",
    "secretHash",
    "__proto__",
    "constructor",
    "$where",
]


class Walk(NamedTuple):
    """One operation, and what is sent to it when nothing is wrong."""

    method: str
    path: str
    parameters: list[dict[str, Any]]
    body: dict[str, Any] | None

    def url(self, **replaced: str) -> str:
        return self.path.format_map({one["name"]: replaced.get(one["name"], uuid4()) for one in self.parameters})


@pytest.fixture(scope="module")
def walks(shop: Shop) -> list[Walk]:
    document = shop.client.get("/api-docs/openapi.json").json()
    return [
        Walk(method.upper(), path, operation.get("parameters", []), _body(operation))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path.startswith(V1)
    ]


def _body(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return content["example"] if content else None


_keys = (f"key-{number}" for number in itertools.count())


def _send(customer: Customer, walk: Walk, body: object = None, url: str | None = None, **options: Any) -> Response:
    headers = {"Idempotency-Key": next(_keys)}
    sent = {"json": walk.body if body is None else body} if walk.body else {}
    return customer.send(walk.method, url or walk.url(), headers=headers, **sent, **options)


def _is_answered(response: Response, text: str) -> None:
    """Not with a 500, and an error says nothing that a driver or a stack trace would."""
    assert response.status_code < 500, (response.request.url, text, response.text)
    if response.status_code >= 400:
        error_of(response, response.status_code, response.json()["error"]["code"])


def _places(value: Any, sort: type, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a body there are values of this sort."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, sort):
        yield at
    for key, inner in entries:
        yield from _places(inner, sort, (*at, key))


def _at(value: Any, steps: tuple[str | int, ...]) -> Any:
    for step in steps:
        value = value[step]
    return value


def _is_named(error: dict[str, Any], steps: tuple[str | int, ...]) -> bool:
    """The place is among the fields that the error names, or the object that holds it."""
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
    return any(field and place.startswith(field) for field in fields_of(error))


@pytest.mark.parametrize("text", NAUGHTY, ids=ascii)
def test_a_text_in_any_string_of_any_body_is_stored_exactly_or_refused_by_name(
    customer: Customer, walks: list[Walk], text: str
) -> None:
    tried = 0
    for walk in walks:
        for steps in _places(walk.body, str):
            body = copy.deepcopy(walk.body)
            _at(body, steps[:-1])[steps[-1]] = text
            response = _send(customer, walk, body)
            _is_answered(response, text)
            if response.status_code == 422:
                assert _is_named(response.json()["error"], steps)
            elif response.status_code < 300 and steps[-1] in (data := response.json()["data"]):
                assert data[steps[-1]] == text
            tried += 1
    assert tried > 10


@pytest.mark.parametrize("text", NAUGHTY, ids=ascii)
def test_a_text_in_any_path_or_query_finds_nothing_or_is_refused(
    customer: Customer, walks: list[Walk], text: str
) -> None:
    tried = 0
    for walk in walks:
        for parameter in walk.parameters:
            if parameter["in"] == "query":
                response = _send(customer, walk, params=[(parameter["name"], text)])
                _is_answered(response, text)
                assert response.status_code in {400, 404} or response.json()["data"] == []
                tried += 1
        if "{" in walk.path:
            quoted = "".join(f"%{byte:02X}" for byte in text.encode())
            names = [one["name"] for one in walk.parameters if one["in"] == "path"]
            response = _send(customer, walk, url=walk.url(**dict.fromkeys(names, quoted)))
            _is_answered(response, text)
            assert response.status_code in {400, 404, 405}
            tried += 1
    assert tried > 30


@pytest.mark.parametrize("text", ["a" * 900_000, "\U0001f469" * 200_000, "'" * 500_000, "e\u0301" * 200_000])
def test_a_very_long_text_is_refused_by_name_in_every_string(customer: Customer, walks: list[Walk], text: str) -> None:
    for walk in walks:
        for steps in _places(walk.body, str):
            body = copy.deepcopy(walk.body)
            _at(body, steps[:-1])[steps[-1]] = text
            response = _send(customer, walk, body)
            assert _is_named(error_of(response, 422, "VALIDATION_ERROR"), steps)


@pytest.mark.parametrize("name", NOT_THEIRS)
def test_a_member_that_no_schema_has_is_refused_by_name_in_every_object(
    customer: Customer, walks: list[Walk], name: str
) -> None:
    before, tried, other_id = customer.rows(), 0, uuid4()
    for walk in walks:
        for steps in _places(walk.body, dict):
            body = copy.deepcopy(walk.body)
            if name in _at(body, steps):
                continue
            _at(body, steps)[name] = {"admin": True} if name.startswith("__") else str(other_id)
            error = error_of(_send(customer, walk, body), 422, "VALIDATION_ERROR")
            assert _is_named(error, (*steps, name)), (walk.path, error)
            tried += 1
    assert tried > 4
    assert customer.rows() == before


def test_a_product_of_another_tenant_cannot_be_ordered(customer: Customer, other: Customer) -> None:
    other.stocked("THEIRS")
    error = error_of(customer.order("THEIRS"), 422, "VALIDATION_ERROR")
    assert [(detail["field"], detail["code"]) for detail in error["details"]] == [("lines[0].sku", "UNKNOWN_SKU")]
    assert other.get("/products").json()["data"][0]["stock"]["reserved"] == 0


def test_a_text_in_any_header_that_is_read_does_no_harm(customer: Customer, walks: list[Walk]) -> None:
    names = {one["name"] for walk in walks for one in walk.parameters if one["in"] == "header"}
    names |= {"X-Request-ID", "X-Correlation-ID", "X-Tenant-ID", "traceparent", "tracestate", "Accept", "User-Agent"}
    names |= {"X-Forwarded-For", "X-HTTP-Method-Override", "Origin", "Cookie", "Range", "Expect"}
    for name in sorted(names):
        for text in NAUGHTY:
            raw = text.encode("utf-8").translate(None, bytes(range(32)) + b"\x7f").strip()
            _is_answered(customer.get(f"/jobs/{uuid4()}", headers={name.encode(): raw}), text)
