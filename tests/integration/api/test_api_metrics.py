"""What only PostgreSQL knows, as it is scraped: whole at every moment, and as it was while nobody can read it."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import Gauge, generate_latest

import api.readiness
import api.routes.metrics
from tests.integration.api.shop import Shop

DEPTH = b'longshore_queue_depth{queue="email",state="due"}'


@pytest.fixture(autouse=True)
def asked_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.readiness, "_REMEMBER_S", 0.0)
    for every in ("_DEPTHS_EVERY_S", "_TABLES_EVERY_S"):
        monkeypatch.setattr(api.routes.metrics, every, 0.0)


def garble(*_: object) -> Any:
    b"\xff".decode()


def test_a_scrape_beside_another_misses_nothing_that_the_fleet_is_scaled_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scrape_first(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*words: Any) -> Any:
            seen.append(DEPTH in generate_latest())
            return change(*words)

        return changed

    seen: list[bool] = []
    assert shop.client.get("/metrics").status_code == 200
    for name in ("labels", "remove"):
        monkeypatch.setattr(Gauge, name, scrape_first(getattr(Gauge, name)))
    assert shop.client.get("/metrics").status_code == 200
    assert set(seen) == {True}


@pytest.mark.parametrize("read", ["queue_depths", "count_lanes", "least_stock"])
def test_figures_that_cannot_be_decoded_stay_as_they_were(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    assert shop.client.get("/metrics").status_code == 200
    monkeypatch.setattr(api.routes.metrics, read, garble)
    response = shop.client.get("/metrics")
    assert (response.status_code, DEPTH in response.content) == (200, True)


def test_a_database_whose_answer_cannot_be_decoded_is_not_ready(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.readiness.Readiness, "_ping", garble)
    response = shop.client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["postgresql"]) == (503, "down")
