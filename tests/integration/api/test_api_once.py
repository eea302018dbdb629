"""An Idempotency-Key on whatever creates something: one effect, one answer, whatever happens in between."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from msgspec import convert
from sqlalchemy import text

import api.once
import api.routes.products
import domain.idempotency
from api.routes.users import NewPerson
from domain.errors import InsufficientStock
from domain.ids import new_id
from domain.inventory.stock import adjust_stock
from domain.tenants.plan_rules import ENDPOINTS
from tests.integration.api.shop import V1, Customer, Shop, error_of, fields_of, opened, settings_for
from tests.integration.wire import Wire, wire_to
from workers.retention import retain

PRODUCT = {"sku": "CUP", "name": "Cup", "price": 3, "stock": 2}
REPORT = {"type": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
ENDPOINT = {"url": "https://example.com/hook", "eventTypes": ["*"]}
ROUTES = ["/products", "/products/{}/stock-adjustments", "/reports", "/webhook-endpoints", "/orders/{}/cancel"]
ROUTES += ["/orders/{}/complete", "/users"]


class Request:
    """One request of a customer, which can be sent again and again."""

    def __init__(self, customer: Customer, route: str) -> None:
        self.customer, self.key = customer, str(new_id())
        self.path, self.body = self._made(route)
        self.other_path, self.other_body = self._made(route)
        self.before = customer.rows()

    def send(self, path: str | None = None, body: object = None) -> Response:
        return self.customer.post(path or self.path, body or self.body, Idempotency_Key=self.key)

    def sent_by_another_body(self) -> Response:
        return self.send(self.other_path, self.other_body)

    def made(self) -> dict[str, int]:
        after = self.customer.rows()
        return {table: after[table] - count for table, count in self.before.items() if after[table] != count}

    def _made(self, route: str) -> tuple[str, dict[str, Any] | None]:
        sku = f"SKU-{new_id()}"
        if route == "/products":
            return route, {**PRODUCT, "sku": sku}
        if route == "/reports":
            return route, {**REPORT, "to": f"2026-02-01T00:00:00.{new_id().int % 10**6:06}Z"}
        if route == "/webhook-endpoints":
            return route, {**ENDPOINT, "url": f"https://example.com/{new_id()}"}
        if route == "/users":
            return route, {"email": f"{new_id()}@example.com", "password": "a password", "name": "Ada"}
        product_id = self.customer.stocked(sku)
        if "stock" in route:
            return route.format(product_id), {"delta": 1}
        order_id, job_id = self.customer.ordered(sku)
        self.customer.shop.work(job_id)
        return route.format(order_id), None


MADE = {
    "/products": {"products": 1, "stock_ledger": 1},
    "/products/{}/stock-adjustments": {"stock_ledger": 1},
    "/reports": {"reports": 1, "jobs": 1, "outbox": 1},
    "/webhook-endpoints": {"webhook_endpoints": 1},
    "/orders/{}/cancel": {"jobs": 1, "outbox": 1},
    "/orders/{}/complete": {"jobs": 1, "outbox": 1},
    "/users": {"users": 1, "jobs": 1, "outbox": 1},
}


@pytest.fixture(params=ROUTES)
def request_(customer: Customer, request: pytest.FixtureRequest) -> Request:
    return Request(customer, request.param)


@pytest.fixture
def report(customer: Customer) -> Request:
    return Request(customer, "/reports")


@contextmanager
def _under_way(request: Request) -> Iterator[None]:
    """Meanwhile somebody else has the key of this request, and has not committed."""
    with request.customer.shop.engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO idempotency_keys (tenant_id, route, key, request_hash, expires_at)"
                " VALUES (:tenant_id, :route, :key, '', now() + interval '1 hour')"
            ),
            {"tenant_id": request.customer.tenant_id, "route": f"POST {V1}{request.path}", "key": request.key},
        )
        yield
        connection.rollback()


def test_the_second_time_is_answered_as_the_first_and_does_nothing(request_: Request) -> None:
    first, second = request_.send(), request_.send()
    assert first.status_code in {201, 202}, first.text
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    for name in ("Location", "Retry-After", "Content-Type", "Cache-Control", "ETag"):
        assert second.headers.get(name) == first.headers.get(name)
    assert request_.made() == next(made for route, made in MADE.items() if _fits(route, request_.path))


def _fits(route: str, path: str) -> bool:
    head, _, tail = route.partition("{}")
    return path.startswith(head) and path.endswith(tail) and (bool(tail) or path == head)


def test_another_body_or_another_thing_under_the_same_key_is_422(request_: Request) -> None:
    first = request_.send()
    made = request_.made()
    error_of(request_.sent_by_another_body(), 422, "IDEMPOTENCY_KEY_REUSED")
    assert request_.made() == made
    assert request_.send().content == first.content


def test_without_a_key_each_request_is_one_of_its_own(customer: Customer) -> None:
    ids = {customer.post("/reports", REPORT).json()["data"]["id"] for _ in range(2)}
    assert len(ids) == 2
    error_of(customer.post("/reports", REPORT, Idempotency_Key=""), 400, "VALIDATION_ERROR")
    wrong = customer.post("/reports", REPORT, Idempotency_Key="k" * 256)
    assert fields_of(error_of(wrong, 400, "VALIDATION_ERROR")) == ["Idempotency-Key"]


def test_a_key_is_one_tenants_and_one_routes(customer: Customer, other: Customer) -> None:
    answers = [
        customer.post("/reports", REPORT, Idempotency_Key="k"),
        other.post("/reports", REPORT, Idempotency_Key='"k"'),
        customer.post("/products", PRODUCT, Idempotency_Key="k"),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 201]
    assert all("Idempotent-Replayed" not in answer.headers for answer in answers)


def test_64_at_once_have_one_effect_and_one_answer(customer: Customer) -> None:
    request = Request(customer, "/products/{}/stock-adjustments")
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: request.send(), range(64)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert request.made() == {"stock_ledger": 1}


class TestRefusals:
    def test_what_the_state_refused_stays_refused_under_its_key(self, customer: Customer) -> None:
        product_id = customer.stocked("CUP", stock=1)
        path, before = f"/products/{product_id}/stock-adjustments", customer.rows()
        first = customer.post(path, {"delta": -2}, Idempotency_Key="k")
        error_of(first, 422, "INSUFFICIENT_STOCK")
        assert customer.rows() == before
        assert customer.post(path, {"delta": 5}).status_code == 201
        again = customer.post(path, {"delta": -2}, Idempotency_Key="k")
        assert (again.status_code, again.content) == (422, first.content)
        assert again.headers["Content-Type"] == first.headers["Content-Type"] == "application/problem+json"
        assert again.headers["Idempotent-Replayed"] == "true"
        assert customer.post(path, {"delta": -2}, Idempotency_Key="new").status_code == 201

    def test_half_an_effect_does_not_stay_with_a_refusal(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = Request(customer, "/products/{}/stock-adjustments")

        def adjust_and_refuse(*given: Any) -> None:
            adjust_stock(*given)
            raise InsufficientStock(sku="CUP", available=0)

        with monkeypatch.context() as patch:
            patch.setattr(api.routes.products, "adjust_stock", adjust_and_refuse)
            first = request.send()
        error_of(first, 422, "INSUFFICIENT_STOCK")
        assert request.send().content == first.content
        assert request.made() == {}

    def test_a_request_that_was_refused_before_it_began_leaves_its_key_free(self, customer: Customer) -> None:
        error_of(customer.post("/reports", {**REPORT, "type": "?"}, Idempotency_Key="k"), 422, "VALIDATION_ERROR")
        backwards = {**REPORT, "to": REPORT["from"]}
        error_of(customer.post("/reports", backwards, Idempotency_Key="k"), 422, "VALIDATION_ERROR")
        path = f"/products/{new_id()}/stock-adjustments"
        error_of(customer.post(path, {"delta": 1}, Idempotency_Key="k"), 404, "NOT_FOUND")
        assert customer.post("/reports", REPORT, Idempotency_Key="k").status_code == 202

    def test_what_the_plan_refused_is_made_under_its_key_once_there_is_room(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ENDPOINTS, "basic", 1)
        endpoint_id = customer.subscribed()
        for _ in range(2):
            refused = customer.post("/webhook-endpoints", ENDPOINT, Idempotency_Key="k")
            error_of(refused, 409, "PLAN_EXHAUSTED")
            assert "Idempotent-Replayed" not in refused.headers
        assert customer.send("DELETE", f"{V1}/webhook-endpoints/{endpoint_id}").status_code == 204
        assert customer.post("/webhook-endpoints", ENDPOINT, Idempotency_Key="k").status_code == 201


class TestTime:
    def test_a_twin_of_what_is_still_under_way_is_409_and_may_come_back(
        self, report: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(domain.idempotency, "PATIENCE_MS", 50)
        with _under_way(report):
            answer = report.send()
        error_of(answer, 409, "IDEMPOTENCY_KEY_IN_FLIGHT")
        assert answer.headers["Retry-After"] == "1"
        assert report.send().status_code == 202

    def test_a_twin_that_waits_does_the_work_when_the_first_has_failed(self, report: Request) -> None:
        with ThreadPoolExecutor(1) as threads:
            with _under_way(report):
                twin = threads.submit(report.send)
                while not report.customer.shop.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    assert not twin.done()
            assert twin.result().status_code == 202
        assert report.made() == {"reports": 1, "jobs": 1, "outbox": 1}

    def test_a_key_is_kept_for_72_hours_at_least_and_then_as_good_as_new(self, report: Request) -> None:
        first = report.send()
        mine = "idempotency_keys WHERE tenant_id = :t"
        left = report.customer.shop.scalar(f"SELECT expires_at - now() FROM {mine}", t=report.customer.tenant_id)
        assert left.total_seconds() > 72 * 3600 - 600
        with report.customer.shop.engine.begin() as tx:
            tx.execute(text("UPDATE idempotency_keys SET expires_at = now() WHERE key = :key"), {"key": report.key})
        second = report.send()
        assert (second.status_code, second.json()["data"]["id"] != first.json()["data"]["id"]) == (202, True)
        assert report.send().content == second.content
        assert report.send().headers["Idempotent-Replayed"] == "true"

    def test_retention_takes_what_is_kept_no_longer(self, report: Request) -> None:
        count = "SELECT count(*) FROM idempotency_keys WHERE tenant_id = :t"
        kept = Request(report.customer, "/products")
        report.send(), kept.send()
        with report.customer.shop.engine.begin() as tx:
            tx.execute(text("UPDATE idempotency_keys SET expires_at = now() WHERE key = :key"), {"key": report.key})
        retain(report.customer.shop.engine, 30)
        assert report.customer.shop.scalar(count, t=report.customer.tenant_id) == 1
        assert kept.send().headers["Idempotent-Replayed"] == "true"


def test_what_failed_half_way_leaves_neither_key_nor_effect(report: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(api.once, "store_answer", lambda *_: 1 / 0)
        error_of(report.send(), 500, "INTERNAL_ERROR")
    assert report.made() == {}
    answer = report.send()
    assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (202, False)


def test_a_secret_that_was_answered_is_not_stored_in_the_clear(customer: Customer) -> None:
    request = Request(customer, "/webhook-endpoints")
    secret = request.send().json()["data"]["secret"]
    assert request.send().json()["data"]["secret"] == secret
    stored = "SELECT body FROM idempotency_keys WHERE tenant_id = :t"
    body = bytes(customer.shop.scalar(stored, t=customer.tenant_id))
    assert len(body) > 100
    assert not any(part in body for part in (b"whsec_", secret.removeprefix("whsec_").encode(), b"success"))


def test_the_digest_of_a_request_is_of_no_use_to_who_guesses_the_password_in_it(customer: Customer) -> None:
    request = Request(customer, "/users")
    assert request.send().status_code == 201
    stored = bytes(
        customer.shop.scalar("SELECT request_hash FROM idempotency_keys WHERE tenant_id = :t", t=customer.tenant_id)
    )
    assert request.body is not None
    body = convert(request.body, NewPerson)
    assert stored != api.once.request_hash("POST", f"{V1}/users", body)


class TestOverABrokenWire:
    @pytest.fixture
    def broken(self, shop: Shop, tmp_path: Path) -> Iterator[tuple[Wire, Request]]:
        """A request to an application without Redis, whose wire to PostgreSQL a test can break."""
        with (
            wire_to(shop.settings.database_url) as (wire, url),
            opened(settings_for(url, "redis://127.0.0.1:1/0", tmp_path)) as client,
        ):
            yield wire, Request(Shop(client, shop.engine, shop.settings).customer(), "/reports")

    def test_a_commit_whose_confirmation_is_lost_is_503_and_the_same_key_resolves_it(
        self, broken: tuple[Wire, Request]
    ) -> None:
        wire, report = broken
        report.customer.get("/reports")  # its key is known from here on: the next commit is the request's
        wire.lose_reply(b"COMMIT")
        error_of(report.send(), 503, "DEPENDENCY_UNAVAILABLE")
        again = report.send()
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
        assert report.made() == {"reports": 1, "jobs": 1, "outbox": 1}

    def test_without_postgresql_it_is_503_within_two_seconds(self, broken: tuple[Wire, Request]) -> None:
        wire, report = broken
        first = report.send()
        assert first.status_code == 202
        wire.close()
        started_at = time.monotonic()
        away = report.send()
        assert time.monotonic() - started_at < 2.0
        error_of(away, 503, "DEPENDENCY_UNAVAILABLE")
        assert away.headers["Retry-After"] == "1"
