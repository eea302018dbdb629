"""A route that shall not be used any more says so: in every answer, and in the document."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from litestar import Litestar, Router, get
from litestar.params import FromPath
from litestar.testing import TestClient

from api.app import create_app
from api.deprecation import Deprecation
from api.openapi import describe
from domain.errors import NotFound
from tests.integration.api.shop import V1, Shop, error_of

SINCE, SUNSET = datetime(2026, 12, 31, tzinfo=UTC), datetime(2027, 7, 1, 12, 30, tzinfo=UTC)


@get("/old/{number:int}", deprecation=Deprecation(SINCE, SUNSET, "/api/v2/new"), sync_to_thread=False)
def get_old(number: FromPath[int]) -> dict[str, int]:
    """The number, if it is even."""
    if number % 2:
        raise NotFound(resource=f"Number {number}")
    return {"number": number}


@get("/older", deprecation=Deprecation(SINCE), sync_to_thread=False)
def get_older() -> dict[str, int]:
    """Nothing."""
    return {}


@get("/new", sync_to_thread=False)
def get_new() -> dict[str, int]:
    """Nothing."""
    return {}


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[TestClient[Litestar]]:
    app = create_app(shop.settings)
    for handler in (get_old, get_older, get_new):
        app.register(handler)
    with TestClient(app) as client:
        yield client


def test_every_answer_says_since_when_until_when_and_what_comes_after(client: TestClient[Litestar]) -> None:
    found, missing = client.get("/old/2"), client.get("/old/1")
    assert found.status_code == 200
    error_of(missing, 404, "NOT_FOUND")
    for answer in (found, missing, client.head("/old/2")):
        assert answer.headers["Deprecation"] == "@1798675200"
        assert answer.headers["Sunset"] == "Thu, 01 Jul 2027 12:30:00 GMT"
        links = '</api-docs>; rel="deprecation"; type="text/html", </api/v2/new>; rel="successor-version"'
        assert answer.headers["Link"] == links


def test_what_is_not_known_yet_is_not_said(client: TestClient[Litestar]) -> None:
    headers = client.get("/older").headers
    assert headers["Deprecation"] == "@1798675200"
    assert "Sunset" not in headers
    assert "successor" not in headers["Link"]


@pytest.mark.parametrize("path", ["/new", "/nowhere", "/livez"])
def test_other_routes_say_nothing(client: TestClient[Litestar], path: str) -> None:
    assert {"Deprecation", "Sunset"}.isdisjoint(client.get(path).headers)


def test_the_document_says_so_too() -> None:
    router = Router(V1, route_handlers=[get_old, get_new])
    with TestClient(Litestar([router], openapi_config=describe(V1, b""), logging_config=None)) as client:
        paths: dict[str, Any] = client.get("/api-docs/openapi.json").json()["paths"]
    old, new = paths[f"{V1}/old/{{number}}"]["get"], paths[f"{V1}/new"]["get"]
    assert old["deprecated"] is True
    assert {"Deprecation", "Sunset", "Link"} <= set(old["responses"]["200"]["headers"])
    assert "deprecated" not in new
    assert "Deprecation" not in new["responses"]["200"]["headers"]


@pytest.mark.parametrize(
    ("since", "sunset"),
    [(SUNSET, SINCE), (SINCE.replace(tzinfo=None), None), (SINCE.astimezone(timezone(timedelta(hours=1))), None)],
)
def test_an_end_before_the_beginning_and_moments_of_elsewhere_are_mistakes(
    since: datetime, sunset: datetime | None
) -> None:
    with pytest.raises(ValueError, match="deprecated first"):
        Deprecation(since, sunset)
