"""What the OpenAPI document says of each operation (names, examples, headers, links, permissions), and of webhooks."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from litestar import Litestar, Router, get, post
from litestar.params import FromPath, JSONBody
from litestar.routes import HTTPRoute
from litestar.testing import TestClient
from msgspec import Meta, Struct

from api.bodies import Body
from api.envelope import CODES, Page, Success
from api.openapi import describe
from domain.event_types import EVENT_TYPES
from domain.webhooks.cloud_event import encode_event
from domain.webhooks.signature_rules import signed_headers
from tests.integration.api.shop import V1, Customer, Shop

#: What clients are made from: a name may be added here, none changed.
NAMES = {
    "post_order": "POST /orders",
    "list_orders": "GET /orders",
    "get_order": "GET /orders/{order_id}",
    "get_order_summary": "GET /orders/{order_id}/summary",
    "list_order_jobs": "GET /orders/{order_id}/jobs",
    "cancel_order": "POST /orders/{order_id}/cancel",
    "complete_order": "POST /orders/{order_id}/complete",
    "list_jobs": "GET /jobs",
    "get_job": "GET /jobs/{job_id}",
    "cancel_job": "POST /jobs/{job_id}/cancel",
    "follow_job": "GET /jobs/{job_id}/events",
    "post_product": "POST /products",
    "patch_product": "PATCH /products/{product_id}",
    "list_products": "GET /products",
    "get_product": "GET /products/{product_id}",
    "post_adjustment": "POST /products/{product_id}/stock-adjustments",
    "post_report": "POST /reports",
    "list_reports": "GET /reports",
    "get_report": "GET /reports/{report_id}",
    "download_report": "GET /reports/{report_id}/download",
    "post_endpoint": "POST /webhook-endpoints",
    "list_endpoints": "GET /webhook-endpoints",
    "patch_endpoint": "PATCH /webhook-endpoints/{endpoint_id}",
    "get_endpoint": "GET /webhook-endpoints/{endpoint_id}",
    "delete_endpoint": "DELETE /webhook-endpoints/{endpoint_id}",
    "list_dead_letters": "GET /admin/dead-letters",
    "get_dead_letter": "GET /admin/dead-letters/{dead_letter_id}",
    "post_login": "POST /auth/login",
    "post_refresh": "POST /auth/refresh",
    "post_logout": "POST /auth/logout",
    "post_password_reset": "POST /auth/password-reset",
    "post_password_reset_confirm": "POST /auth/password-reset/confirm",
    "post_user": "POST /users",
    "list_users": "GET /users",
    "get_me": "GET /users/me",
    "get_user": "GET /users/{user_id}",
    "patch_user": "PATCH /users/{user_id}",
    "delete_user": "DELETE /users/{user_id}",
}
#: The formats that examples are held to, as RFC 3339 and RFC 9562 have them.
FORMATS = FormatChecker(formats=())
FORMATS.checks("uuid", ValueError)(lambda value: not isinstance(value, str) or str(UUID(value)) == value)
FORMATS.checks("date-time", ValueError)(
    lambda value: not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
)


@pytest.fixture(scope="module")
def document(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = shop.client.get("/api-docs/openapi.json").json()
    return found


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _fit(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole, format_checker=FORMATS).validate(value)


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    for step in found["$ref"].removeprefix("#/").split("/") if "$ref" in found else []:
        document = document[step]
    return document if "$ref" in found else found


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    from schemathesis.specs.openapi.definitions import OPENAPI_31  # noqa: PLC0415  # of the OpenAPI Initiative

    Draft202012Validator(OPENAPI_31).validate(document)


def test_operations_keep_the_names_that_clients_know_them_by(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: f"{method.upper()} {path}" for path, method, operation in _operations(document)}
    assert {name: found.get(name) for name in NAMES} == {
        name: f"{route.split()[0]} {V1}{route.split()[1]}" for name, route in NAMES.items()
    }
    assert [name for name in found if not re.fullmatch(r"[a-z][a-z0-9_]+", name)] == []
    # With a dot, two types have one name, and generated clients would call both otherwise.
    assert [name for name in document["components"]["schemas"] if "." in name] == []


def test_every_operation_has_an_example_of_what_it_takes_and_answers_and_all_of_them_fit(
    document: dict[str, Any],
) -> None:
    shown = 0
    for path, _, operation in _operations(document):
        assert operation["summary"]
        assert operation["description"]
        answers = [_resolved(document, answer) for answer in operation["responses"].values()]
        contents = [content for answer in answers for content in answer.get("content", {}).values()]
        contents += operation.get("requestBody", {}).get("content", {}).values()
        for content in contents:
            examples = [one["value"] for one in content.get("examples", {}).values()] or [content["example"]]
            for example in examples:
                _fit(document, content.get("schema", {}), example)
                shown += 1
        for parameter in operation.get("parameters", []):
            assert "example" in parameter or parameter["in"] == "query", (path, parameter["name"])
            if "example" in parameter:
                _fit(document, parameter["schema"], parameter["example"])
        if "security" in operation:
            assert any("400" <= status < "500" for status in operation["responses"])
    assert shown > 300


def test_every_code_of_an_error_is_shown_under_its_status(document: dict[str, Any]) -> None:
    for name, code in CODES.items():
        if code.status == 405:  # no operation has it: the text says so
            assert "405" in document["info"]["description"]
            continue
        content = document["components"]["responses"][str(code.status)]["content"]["application/problem+json"]
        value = content["examples"][name]["value"]
        assert (value["status"], value["error"]["code"]) == (code.status, name)


def test_an_answer_has_the_headers_that_are_declared(customer: Customer, document: dict[str, Any]) -> None:
    """Those that a 202 and a job always carry; schemathesis checks the rest."""
    customer.stocked()
    posted = customer.order()
    read = customer.get(f"/jobs/{posted.json()['data']['job']['id']}", headers={"Prefer": "wait=0"})
    for response, path, method in ((posted, "/orders", "post"), (read, "/jobs/{job_id}", "get")):
        declared = document["paths"][V1 + path][method]["responses"][str(response.status_code)]["headers"]
        always = {name for name, header in declared.items() if _resolved(document, header)["required"]}
        assert {"X-Request-ID", "RateLimit", "Location" if method == "post" else "ETag"} <= always
        assert [name for name in always if name not in response.headers] == []
        for name, header in declared.items():
            if name in response.headers:
                _fit(document, _resolved(document, header)["schema"], response.headers[name])
    declared = document["paths"][f"{V1}/orders"]["post"]["responses"]["202"]["headers"]
    assert declared["Idempotent-Replayed"]["required"] is False


def test_links_lead_from_an_answer_to_operations_that_take_its_ids(document: dict[str, Any]) -> None:
    takers = {operation["operationId"]: operation for _, _, operation in _operations(document)}
    linked = set()
    for _, _, operation in _operations(document):
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                taken = {parameter["name"]: parameter for parameter in takers[link["operationId"]]["parameters"]}
                for name, pointer in link["parameters"].items():
                    assert taken[name]["in"] == "path"
                    value: Any = answer["content"]["application/json"]["example"]
                    for step in pointer.removeprefix("$response.body#/").split("/"):
                        value = value[int(step)] if step.isdigit() else value[step]
                    assert value == taken[name]["example"], (operation["operationId"], link)
                linked.add((operation["operationId"], link["operationId"]))
    assert {("post_order", "get_job"), ("post_order", "get_order"), ("post_report", "get_job")} <= linked
    assert {("post_endpoint", "delete_endpoint"), ("post_product", "post_adjustment")} <= linked
    assert {("list_orders", "cancel_order"), ("cancel_order", "get_job")} <= linked


def test_each_operation_names_the_permission_that_its_route_demands(shop: Shop, document: dict[str, Any]) -> None:
    for route in shop.client.app.routes:
        if isinstance(route, HTTPRoute) and route.path_format in document["paths"]:
            for method, (handler, _) in route.route_handler_map.items():
                operation = document["paths"][route.path_format].get(method.lower(), {})
                permission = handler.opt.get("permission")
                assert operation.get("x-permission") == (None if permission == "anybody" else permission)


def test_every_tag_is_described(document: dict[str, Any]) -> None:
    used = {tag for _, _, operation in _operations(document) for tag in operation["tags"]}
    assert used | {"Webhooks"} == {tag["name"] for tag in document["tags"] if tag["description"]}


def test_every_event_is_described_as_it_is_sent(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == set(EVENT_TYPES)
    for name, item in document["webhooks"].items():
        operation = item["post"]
        content = operation["requestBody"]["content"]["application/json"]
        _fit(document, content["schema"], content["example"])
        row = SimpleNamespace(
            id=UUID(content["example"]["id"]),
            tenant_id=UUID(int=7),
            type=name,
            subject=UUID(content["example"]["subject"]),
            occurred_at=datetime(2026, 11, 20, 9, 30, tzinfo=UTC),
            version=1,
            sequence=2,
            data=content["example"]["data"],
        )
        sent: dict[str, Any] = json.loads(encode_event(row))  # type: ignore[arg-type]  # a row in all that is read of it
        _fit(document, content["schema"], sent)
        assert set(sent) == set(content["schema"]["required"])
        headers = signed_headers([bytes(32)], "msg_x", 0, b"{}", name)
        assert [one["name"] for one in operation["parameters"]] == list(headers)
        assert {"2XX", "410", "429"} <= set(operation["responses"])


def test_the_data_of_an_event_that_happened_is_as_described(customer: Customer, document: dict[str, Any]) -> None:
    customer.stocked()
    customer.shop.work(customer.ordered()[1])
    customer.shop.work(customer.reported()[1])
    with customer.shop.engine.begin() as tx:
        rows = tx.exec_driver_sql("SELECT * FROM events WHERE tenant_id = %s", (customer.tenant_id,)).all()
    assert {row.type for row in rows} == {"order.created", "order.confirmed", "report.completed"}
    for row in rows:
        schema = document["webhooks"][row.type]["post"]["requestBody"]["content"]["application/json"]["schema"]
        _fit(document, schema, json.loads(encode_event(row)))


class Crate(Struct, rename="camel"):
    """A crate."""

    id: UUID
    packed_at: datetime | None


class NewCrate(Body, frozen=True):
    """A new crate."""

    marks: Annotated[list[Annotated[str, Meta(max_length=9)]], Meta(min_length=1)]


@post("/", summary="Pack a crate", permission="crates:write", sync_to_thread=False)
def post_crate(data: JSONBody[NewCrate]) -> Success[Crate]:
    """A crate is packed."""
    raise NotImplementedError


@get("/", summary="List crates", permission="crates:read", sync_to_thread=False)
def get_crates() -> Page[Crate]:
    """The crates."""
    raise NotImplementedError


@get("/{crate_id:str}", summary="Look into a crate", permission="crates:read", sync_to_thread=False)
def get_one_crate(crate_id: FromPath[UUID]) -> Success[Crate]:
    """The crate."""
    raise NotImplementedError


def test_a_new_route_is_described_without_being_told() -> None:
    crates = Router("/crates", route_handlers=[post_crate, get_crates, get_one_crate], tags=["Crates"])
    business = Router(V1, route_handlers=[crates], security=[{"apiKeyAuth": []}])
    with TestClient(Litestar([business], openapi_config=describe(V1, b""), logging_config=None)) as client:
        document = client.get("/api-docs/openapi.json").json()
    operations = {operation["operationId"]: operation for _, _, operation in _operations(document)}
    assert set(operations) == {"post_crate", "list_crates", "get_crate"}
    packed = operations["post_crate"]
    assert packed["x-permission"] == "crates:write"
    assert {"400", "401", "403", "409", "413", "415", "422", "500", "503"} <= set(packed["responses"])
    assert packed["responses"]["201"]["links"]["get_crate"]["parameters"] == {"crate_id": "$response.body#/data/id"}
    listed = operations["list_crates"]["responses"]["200"]["links"]["get_crate"]
    assert listed["parameters"] == {"crate_id": "$response.body#/data/0/id"}
    assert packed["requestBody"]["content"]["application/json"]["example"] == {"marks": ["text"]}
    schemas = document["components"]["schemas"]
    assert schemas["NewCrate"]["properties"]["marks"]["items"]["maxLength"] == 9
    assert schemas["NewCrate"]["additionalProperties"] is False
    assert schemas["Crate"]["required"] == ["id", "packedAt"]
    assert schemas["Crate"]["properties"]["packedAt"]["anyOf"][0]["format"] == "date-time"
    for operation in operations.values():
        for status, answer in operation["responses"].items():
            if status < "300":
                content = answer["content"]["application/json"]
                _fit(document, content["schema"], content["example"])
