"""Health, and the API through outages: it says so in time, accepts what it can keep, and comes back by itself."""

import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

import api.readiness
from domain.database import connect
from domain.fleet.workers import Process, beat
from domain.ids import new_id
from domain.jobs.kind import queues
from ops.migrate import head, upgrade
from ops.stack import Stack
from tests.integration.api.shop import V1, Customer, Shop, error_of, opened, settings_for

LIVE = ("/livez", "/health/live")
READY = ("/readyz", "/health/ready", "/ready")
DETAIL = ("/health", "/api/v1/health")
PARTS = ["status", "timestamp", "version", "services", "database"]


def test_every_path_of_health_answers_without_a_key(shop: Shop) -> None:
    for path in LIVE:
        response = shop.client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    for path in READY:
        response = shop.client.get(path)
        checks = {"postgresql": "ok", "redis": "ok"}
        assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": checks})
    for path in DETAIL:
        response = shop.client.get(path)
        assert (response.status_code, list(response.json())) == (200, PARTS)


def test_health_tells_which_processes_are_alive(shop: Shop) -> None:
    keepers, workers = ("relay", "rescuer", "scheduler"), [f"worker:{queue}" for queue in queues()]

    def told() -> tuple[str, dict[str, str]]:
        body = shop.client.get("/health").json()
        assert body["database"] == {"postgresql": "connected", "redis": "connected"}
        assert all(re.fullmatch(r"\d+ms", service["responseTime"]) for service in body["services"].values())
        states = {name: service["status"] for name, service in body["services"].items()}
        assert (states.pop("postgresql"), states.pop("redis")) == ("healthy", "healthy")
        return body["status"], states

    assert told() == ("degraded", dict.fromkeys([*keepers, *workers], "unhealthy"))
    with shop.engine.begin() as tx:
        for role in keepers:
            beat(tx, Process(new_id(), role, "berth-1", 17, []))
        beat(tx, Process(first := new_id(), "worker", "berth-1", 18, ["email", "inventory"]))
        beat(tx, Process(new_id(), "worker", "berth-1", 19, [queue for queue in queues() if queue != "email"]))
    assert told() == ("healthy", dict.fromkeys([*keepers, *workers], "healthy"))
    shop.scalar("UPDATE workers SET beat_at = beat_at - interval '1 minute' WHERE id = :id RETURNING 1", id=first)
    status, states = told()
    assert (status, [name for name, state in states.items() if state == "unhealthy"]) == ("degraded", ["worker:email"])


@pytest.mark.parametrize("path", [*READY, *DETAIL])
def test_asked_for_health_json_it_answers_in_that_form(shop: Shop, path: str) -> None:
    response = shop.client.get(path, headers={"Accept": "application/health+json"})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/health+json")
    body = response.json()
    assert body["status"] in {"pass", "warn"}
    (check,) = body["checks"]["postgresql:responseTime"]
    assert (check["componentType"], check["observedUnit"], check["status"]) == ("datastore", "ms", "pass")


def test_a_database_at_another_schema_is_not_ready(shop: Shop) -> None:
    with opened(shop.settings, schema="a later one") as client:
        response = client.get("/readyz")
        assert (response.status_code, response.json()["checks"]["postgresql"]) == (503, "down")
        assert client.get("/livez").status_code == 200


def test_a_process_that_is_stopping_is_not_ready_but_live(shop: Shop) -> None:
    with opened(shop.settings, head()) as client:
        readiness = client.app.dependencies["readiness"].dependency()
        assert client.get("/readyz").status_code == 200
        readiness.stopping = True
        response = client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (503, "not_ready")
        assert response.json()["checks"]["postgresql"] == "ok"
        assert client.get("/livez").status_code == 200


def test_leaving_makes_it_unready(shop: Shop) -> None:
    with opened(shop.settings, head()) as client:
        readiness = client.app.dependencies["readiness"].dependency()
        assert readiness.stopping is False
    assert readiness.stopping is True


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("own")) as running:
        upgrade(running.database_url)
        yield running


@pytest.fixture(scope="module")
def own_shop(own: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    settings = settings_for(own.database_url, own.redis_url, folder)
    engine = connect(own.database_url, process="test")
    with opened(settings, head()) as client:
        yield Shop(client, engine, settings)
    engine.dispose()


@pytest.fixture
def buyer(own_shop: Shop) -> Customer:
    buyer = own_shop.customer()
    buyer.stocked("MUG")
    return buyer


@contextmanager
def frozen(own: Stack, pids: Collection[int] = ()) -> Iterator[None]:
    """These processes of PostgreSQL hold still until the block ends, or all of them."""
    pids = pids or _processes(own.pids["PostgreSQL"])
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class TestOutage:
    """On servers of its own, which it may stop."""

    @pytest.fixture(autouse=True)
    def asked_afresh(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api.readiness, "_REMEMBER_S", 0.0)

    def test_without_postgresql_it_says_so_in_time_and_comes_back_by_itself(self, own: Stack, buyer: Customer) -> None:
        stranger = buyer.shop.customer()  # whose key is not remembered
        assert buyer.order(key="before").status_code == 202
        own.postgresql.stop()
        try:
            for customer in (buyer, stranger, buyer):
                started_at = time.monotonic()
                response = customer.order(key="meanwhile")
                assert time.monotonic() - started_at < 2.5
                error_of(response, 503, "DEPENDENCY_UNAVAILABLE")
                assert response.headers["Retry-After"] == "1"
            self._is_not_ready(buyer.shop)
            error_of(buyer.get("/orders"), 503, "DEPENDENCY_UNAVAILABLE")
            assert buyer.shop.client.get("/metrics").status_code == 200
        finally:
            own.postgresql.start()
        assert buyer.shop.client.get("/readyz").status_code == 200
        assert buyer.order(key="before").headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in buyer.order(key="meanwhile").headers
        assert buyer.rows()["orders"] == 2

    def test_with_a_frozen_postgresql_nobody_waits_for_ever(
        self, own: Stack, buyer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for setting in ("api.ingress.DEADLINE_S", "api.ring.LOOK_UP_WITHIN_S", "api.readiness._TIMEOUT_S"):
            monkeypatch.setattr(setting, 0.5)
        stranger = buyer.shop.customer()
        assert buyer.order(key="before").status_code == 202
        with frozen(own):
            for customer in (buyer, stranger):
                started_at = time.monotonic()
                error_of(customer.order(key="meanwhile"), 503, "DEPENDENCY_UNAVAILABLE")
                assert time.monotonic() - started_at < 1.5
            self._is_not_ready(buyer.shop)
        assert buyer.order(key="meanwhile").status_code == 202
        assert buyer.rows()["orders"] == 2

    def test_nor_does_he_who_reads_or_writes_anything_else(
        self, own: Stack, buyer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.parts.SILENCE_S", 0.5)
        headers = {"X-API-Key": buyer.key}
        product = {"sku": "CUP", "name": "Cup", "price": 5, "currency": "USD"}
        with opened(buyer.shop.settings, head()) as client:
            assert client.get(f"{V1}/products", headers=headers).status_code == 200
            with frozen(own):
                error_of(client.get(f"{V1}/orders", headers=headers), 503, "DEPENDENCY_UNAVAILABLE")
                error_of(client.post(f"{V1}/products", headers=headers, json=product), 503, "DEPENDENCY_UNAVAILABLE")
            assert client.post(f"{V1}/products", headers=headers, json=product).status_code in {201, 409}
            assert client.get(f"{V1}/products", headers=headers).json()["data"][0]["sku"] == "CUP"

    def test_a_frozen_session_of_the_intake_is_left_behind(
        self, own: Stack, own_shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.parts.SILENCE_S", 0.5)
        sessions = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'longshore-ingress'"
        with opened(own_shop.settings, head()) as client:
            buyer = Shop(client, own_shop.engine, own_shop.settings).customer()
            buyer.stocked("MUG")
            others = own_shop.scalar(sessions) or []
            assert buyer.order(key="before").status_code == 202
            with frozen(own, set(own_shop.scalar(sessions)) - set(others)):
                assert buyer.order(key="meanwhile").status_code == 202

    @staticmethod
    def _is_not_ready(shop: Shop) -> None:
        for path in READY:
            started_at = time.monotonic()
            response = shop.client.get(path)
            assert time.monotonic() - started_at < 3.0
            assert (response.status_code, response.json()["status"]) == (503, "not_ready")
            assert response.json()["checks"] == {"postgresql": "down", "redis": "ok"}
        for path in LIVE:
            assert shop.client.get(path).status_code == 200
        response = shop.client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "unhealthy")

    def test_without_redis_it_is_ready_and_takes_orders_unless_told_to_need_it(
        self, own: Stack, buyer: Customer
    ) -> None:
        strict = msgspec.structs.replace(buyer.shop.settings, ready_requires="postgresql,redis")
        with opened(strict, head()) as client:
            assert client.get("/readyz").status_code == 200
            own.valkey.stop()
            try:
                response = buyer.shop.client.get("/readyz")
                checks = {"postgresql": "ok", "redis": "down"}
                assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": checks})
                for key in ("one", "two"):
                    started_at = time.monotonic()
                    assert buyer.order(key=key).status_code == 202
                    assert time.monotonic() - started_at < 1.0
                assert buyer.reported()
                assert buyer.shop.client.get("/health").json()["status"] == "degraded"
                response = client.get("/readyz")
                assert (response.status_code, response.json()) == (503, {"status": "not_ready", "checks": checks})
            finally:
                own.valkey.start()
            assert client.get("/readyz").status_code == 200


def _processes(postmaster: int) -> list[int]:
    """The server, then its children: none is started meanwhile."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]
