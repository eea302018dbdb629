"""What browsers are told: by every answer, and by the answer to a page of another origin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ops.stack import Stack
from tests.integration.api.shop import V1, Customer, opened, settings_for

SHOP = "https://shop.example"


@pytest.fixture
def asked_from_pages(shop_database_url: str, stack: Stack, tmp_path: Path) -> Iterator[TestClient[Litestar]]:
    """An application whose owner admits the pages of one origin."""
    with opened(settings_for(shop_database_url, stack.redis_url, tmp_path, cors_origin=SHOP)) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{V1}/orders", 200),
        ("DELETE", f"{V1}/orders", 405),
        ("GET", f"{V1}/orders/junk", 400),
        ("GET", "/nope", 404),
        ("GET", "/livez", 200),
        ("GET", "/api-docs", 200),
        ("GET", "/api-docs/assets/start.js", 200),
    ],
)
def test_every_answer_tells_browsers_to_be_careful(customer: Customer, method: str, path: str, status: int) -> None:
    response = customer.send(method, path)
    assert response.status_code == status
    told = response.headers
    assert told["Content-Security-Policy"].startswith("default-src 'self'; script-src 'self'; ")
    assert told["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert told["X-Frame-Options"] == "DENY"
    assert told["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in told


def test_a_page_of_an_admitted_origin_may_call_with_its_key(asked_from_pages: TestClient[Litestar]) -> None:
    asked = {
        "Origin": SHOP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key, idempotency-key, content-type",
    }
    preflight = asked_from_pages.options(f"{V1}/orders", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == SHOP
    allowed = {word.strip().lower() for word in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"x-api-key", "idempotency-key", "content-type"} <= allowed
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    # Errors, too, are for the page to read.
    refused = asked_from_pages.get(f"{V1}/orders", headers={"Origin": SHOP})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == SHOP
    assert "retry-after" in refused.headers["Access-Control-Expose-Headers"].lower()


def test_a_page_of_any_other_origin_is_admitted_to_nothing(asked_from_pages: TestClient[Litestar]) -> None:
    other = {"Origin": "https://shop.example.evil", "Access-Control-Request-Method": "POST"}
    assert "Access-Control-Allow-Origin" not in asked_from_pages.options(f"{V1}/orders", headers=other).headers
    assert "Access-Control-Allow-Origin" not in asked_from_pages.get(f"{V1}/orders", headers=other).headers
