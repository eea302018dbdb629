"""The OpenAPI document: true to what the API answers, and whole: no page, schema or style from another host."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from litestar.routes import HTTPRoute

from tests.integration.api.people import Employee
from tests.integration.api.shop import PROBLEM, V1, Customer, Shop

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document(shop: Shop) -> dict[str, Any]:
    response = shop.client.get("/api-docs/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, item[method]) for path, item in document["paths"].items() for method in METHODS & set(item)]


def _references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    return set().union(*(_references(item) for item in value)) if isinstance(value, list) else set()


def test_it_is_openapi_3_1_with_both_ways_to_show_a_key(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "Longshore"
    assert document["info"]["version"]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["apiKeyAuth"]["in"], schemes["apiKeyAuth"]["name"]) == ("header", "X-API-Key")
    assert (schemes["bearerAuth"]["type"], schemes["bearerAuth"]["scheme"]) == ("http", "bearer")


def test_business_is_under_one_prefix_and_shows_its_key_and_all_else_is_outside(document: dict[str, Any]) -> None:
    outside = {path for path, _, operation in _operations(document) if "security" not in operation}
    aliases = {"/livez", "/readyz", "/ready", "/health", "/health/live", "/health/ready", f"{V1}/health"}
    before = {f"{V1}/auth/{name}" for name in ("login", "refresh", "password-reset", "password-reset/confirm")}
    assert outside == {"/errors", "/errors/{code}"} | aliases | before
    for path, _, operation in _operations(document):
        if path not in outside:
            assert path.startswith(f"{V1}/")
            assert operation["security"] == [{"apiKeyAuth": []}, {"bearerAuth": []}]


def test_every_route_that_is_served_is_described(shop: Shop, document: dict[str, Any]) -> None:
    served = {
        (route.path_format, method.lower())
        for route in shop.client.app.routes
        if isinstance(route, HTTPRoute) and not route.path_format.startswith("/api-docs")
        for method in route.methods - {"OPTIONS"}
    }
    assert {(path, method) for path, method, _ in _operations(document)} == served - {("/metrics", "get")}


def test_its_structure_is_sound(document: dict[str, Any]) -> None:
    operations = _operations(document)
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names)) > 20
    for path, _, operation in operations:
        assert operation["summary"]
        assert operation["tags"]
        assert operation["responses"]
        declared = {entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
    for reference in _references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        assert found
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


def test_every_error_is_declared_as_a_problem_and_a_bad_body_as_422(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        if "security" in operation:
            assert {"400", "401", "403", "500", "503"} <= set(errors)
        keyed = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
        assert ("422" in errors) == ("requestBody" in operation or keyed)
        assert ("404" in errors) == ("{" in path)
        assert ("409" in errors) == (path.startswith(V1) and (method != "get" or path.endswith("/download")))
        assert ("423" in errors) == path.endswith("/login")
        if path in {"/health", "/ready", "/readyz", "/health/ready", f"{V1}/health"}:
            assert list(errors) == ["503"]
            continue
        assert errors or path in {"/errors", "/livez", "/health/live"}
        for status, answer in errors.items():
            assert answer == {"$ref": f"#/components/responses/{status}"}
            declared = document["components"]["responses"][status]
            assert set(declared["content"]) == {"application/problem+json", "application/json"}


def test_the_declared_problem_is_the_one_that_is_answered(customer: Customer, document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    declared = Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": document["components"]})
    for response in (customer.get("/orders/x"), customer.post("/orders", {}), customer.send("GET", "/nope")):
        declared.validate(response.json())
    assert set(components["Problem"]["required"]) == set(PROBLEM["required"])


def test_answers_fit_their_schemas(customer: Customer, document: dict[str, Any]) -> None:
    product_id = customer.stocked()
    order_id, job_id = customer.ordered()
    customer.shop.work(job_id)
    report_id, _ = customer.reported()
    endpoint_id, letter_id = customer.subscribed(), customer.buried()
    ids = {
        "order_id": order_id,
        "job_id": job_id,
        "product_id": product_id,
        "report_id": report_id,
        "endpoint_id": endpoint_id,
        "dead_letter_id": letter_id,
        "user_id": customer.employed(),
        "code": "NOT_FOUND",
    }
    checked, ada = 0, Employee(customer)
    for path, method, operation in _operations(document):
        if method != "get" or path.endswith(("/download", "/events")):  # files and streams are no JSON
            continue
        response = ada.get("/users/me") if path.endswith("/me") else customer.send("GET", path.format(**ids))
        assert response.status_code == 200, path
        answer = operation["responses"][str(response.status_code)]
        schema = {**answer["content"]["application/json"]["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(response.json())
        checked += 1
    assert checked > 15


def test_bodies_say_that_they_take_no_other_fields_and_money_is_a_number(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, _, operation in _operations(document):
        for reference in _references(operation.get("requestBody")):
            assert schemas[reference.rpartition("/")[2]]["additionalProperties"] is False, path
    assert schemas["NewLine"]["additionalProperties"] is False
    assert schemas["NewProduct"]["properties"]["price"]["type"] == "number"


def test_the_page_asks_no_other_host_for_anything(shop: Shop) -> None:
    page = shop.client.get("/api-docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", page.text.split("<body>")[0]) == []
    sources = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(sources) >= 4
    for source in sources:
        assert source.startswith("/api-docs/assets/")
        assert shop.client.get(source).status_code == 200
    assert "cdn" not in page.text.lower()
    assert "<script>" not in page.text, "the headers of the page forbid a script that stands in it"
