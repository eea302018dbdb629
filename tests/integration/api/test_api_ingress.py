"""The intake by itself, on a real database: what one order meets is its own affair, no answer comes too soon."""

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.typing import EventDict

import api.ingress
from api.ingress import Ingress
from domain.errors import DependencyUnavailable, IdempotencyKeyReused, LongshoreError, Overloaded
from domain.orders.intake import AcceptedOrder, IntakeLine, IntakeOrder
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts
from tests.integration.api.served import served
from tests.integration.api.shop import Customer, Shop, error_of, opened, settings_for
from tests.integration.wire import Wire, wire_to


def _order(tenant_id: UUID, key: str, email: str = "ada@example.com", sku: str = "MUG") -> IntakeOrder:
    return IntakeOrder(
        tenant_id=tenant_id,
        idempotency_key=key,
        request_hash=hashlib.sha256(ascii(email).encode()).digest(),
        customer_email=email,
        currency="USD",
        lines=[IntakeLine(sku, 1)],
        trace_context=None,
    )


@contextmanager
def _no_order_gets_in(shop: Shop) -> Iterator[None]:
    """Meanwhile every insert waits."""
    with shop.engine.connect() as connection:
        connection.execute(text("LOCK TABLE orders IN SHARE MODE"))
        yield
        connection.rollback()


async def _gathered(ingress: Ingress, *orders: IntakeOrder) -> list[AcceptedOrder | BaseException]:
    return await asyncio.gather(*(ingress.accept(order) for order in orders), return_exceptions=True)


@pytest.fixture
def tenant_id(customer: Customer) -> UUID:
    customer.stocked("MUG")
    return customer.tenant_id


def test_orders_that_wait_together_are_stored_together(shop: Shop, tenant_id: UUID) -> None:
    rung: list[int] = []

    async def run() -> list[AcceptedOrder | BaseException]:
        async with Ingress(shop.engine, lambda _hint: rung.append(1)) as ingress:
            with _no_order_gets_in(shop):
                first = asyncio.create_task(ingress.accept(_order(tenant_id, "k0")))
                await asyncio.sleep(0.05)
                rest = asyncio.gather(*(ingress.accept(_order(tenant_id, f"k{n}")) for n in range(1, 50)))
                await asyncio.sleep(0.05)
            return [await first, *await rest]

    answers = asyncio.run(run())
    assert {type(answer) for answer in answers} == {AcceptedOrder}
    assert shop.scalar("SELECT count(*) FROM orders WHERE tenant_id = :t", t=tenant_id) == 50
    commits = "SELECT count(DISTINCT xmin::text) FROM orders WHERE tenant_id = :t"
    assert shop.scalar(commits, t=tenant_id) == len(rung) == 2


def test_who_has_waited_elsewhere_waits_here_no_longer_than_the_rest_of_his_time(
    shop: Shop, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ingress, "DEADLINE_S", 60.0)

    async def run() -> list[AcceptedOrder | BaseException]:
        async with Ingress(shop.engine, lambda _hint: None) as ingress:
            with _no_order_gets_in(shop):
                waits = (ingress.accept(_order(tenant_id, f"k{waited_s}"), waited_s) for waited_s in (59.9, 60.0, 61.0))
                return await asyncio.gather(*waits, return_exceptions=True)

    assert {type(answer) for answer in asyncio.run(run())} == {DependencyUnavailable}
    assert shop.scalar("SELECT count(*) FROM orders WHERE tenant_id = :t", t=tenant_id) <= 1


def test_a_slow_look_up_of_the_key_is_part_of_an_orders_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.ingress, "DEADLINE_S", 1.0)
    find = shop.client.app.state.key_ring._find

    def find_late(parts: KeyParts) -> Caller | None:
        time.sleep(1.1)
        found: Caller | None = find(parts)
        return found

    stranger = shop.customer()
    stranger.stocked("MUG")
    shop.client.app.state.key_ring.__dict__["_known"].clear()
    monkeypatch.setattr(shop.client.app.state.key_ring, "_find", find_late)
    error_of(stranger.order(key="late"), 503, "DEPENDENCY_UNAVAILABLE")
    assert stranger.rows()["orders"] == 0
    answer = stranger.order(key="late")
    assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (202, False)


def test_a_flush_that_gets_no_thread_is_followed_by_one_that_does(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = shop.customer()
    stranger.stocked("MUG")
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("ingress"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with opened(shop.settings) as client:
        body = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": "MUG", "quantity": 1}]}
        headers = {"X-API-Key": stranger.key, "Idempotency-Key": "no thread"}
        with monkeypatch.context() as scarce:
            scarce.setattr(threading.Thread, "start", refuse)
            error_of(client.post("/api/v1/orders", json=body, headers=headers), 503, "DEPENDENCY_UNAVAILABLE")
        assert client.post("/api/v1/orders", json=body, headers=headers).status_code == 202
    assert stranger.rows()["orders"] == 1


def test_the_time_that_a_body_takes_to_come_is_no_part_of_an_orders_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = shop.customer()
    stranger.stocked("MUG")
    body = b'{"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": "MUG", "quantity": 1}]}'
    monkeypatch.setattr(api.ingress, "DEADLINE_S", 1.0)
    length = f"Content-Length: {len(body)}"
    head = ["POST /api/v1/orders HTTP/1.1", "Host: x", f"X-API-Key: {stranger.key}", "Idempotency-Key: slow", length]
    with served(shop.settings) as running, socket.create_connection(("127.0.0.1", running.port), timeout=20) as line:
        line.sendall("\r\n".join([*head, "Content-Type: application/json", "", ""]).encode() + body[:10])
        time.sleep(1.2)  # what is sent later than an order may take
        line.sendall(body[10:])
        assert line.recv(65_536).startswith(b"HTTP/1.1 202 ")
    assert stranger.rows()["orders"] == 1


@pytest.mark.parametrize(
    "bad",
    [{"email": "ada\0@example.com"}, {"email": "ada\ud800@example.com"}],
    ids=["refused by the driver", "beyond it"],
)
def test_an_order_that_cannot_be_stored_fails_alone(shop: Shop, tenant_id: UUID, bad: dict[str, str]) -> None:
    poison = _order(tenant_id, "poison", **bad)

    async def run() -> tuple[list[AcceptedOrder | BaseException], AcceptedOrder]:
        async with Ingress(shop.engine, lambda _hint: None) as ingress:
            together = await _gathered(ingress, _order(tenant_id, "a"), poison, _order(tenant_id, "b"))
            return together, await ingress.accept(_order(tenant_id, "c"))

    (first, failed, third), after = asyncio.run(run())
    assert (type(first), type(third), type(after)) == (AcceptedOrder, AcceptedOrder, AcceptedOrder)
    assert (type(failed), failed.code) == (LongshoreError, "INTERNAL_ERROR")  # type: ignore[union-attr]
    assert failed.__cause__ is not None  # type: ignore[union-attr]
    keys = "SELECT string_agg(idempotency_key, '' ORDER BY idempotency_key) FROM orders WHERE tenant_id = :t"
    assert shop.scalar(keys, t=tenant_id) == "abc"


def test_refusals_of_some_do_not_touch_the_others(shop: Shop, tenant_id: UUID) -> None:
    async def run() -> list[AcceptedOrder | BaseException]:
        async with Ingress(shop.engine, lambda _hint: None) as ingress:
            await ingress.accept(_order(tenant_id, "used"))
            return await _gathered(
                ingress,
                _order(tenant_id, "new"),
                _order(tenant_id, "used", email="bob@example.com"),
                _order(tenant_id, "unknown", sku="NO-SUCH"),
                _order(tenant_id, "used"),
            )

    new, reused, unknown, replayed = asyncio.run(run())
    assert isinstance(new, AcceptedOrder)
    assert isinstance(reused, IdempotencyKeyReused)
    assert isinstance(unknown, LongshoreError)
    assert unknown.violations[0].code == "UNKNOWN_SKU"
    assert isinstance(replayed, AcceptedOrder)
    assert (new.replayed, replayed.replayed) == (False, True)


def test_beyond_its_bound_it_says_overloaded_at_once_and_then_recovers(
    shop: Shop, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ingress, "MOST_WAITING", 3)

    async def run() -> tuple[list[AcceptedOrder | BaseException], float]:
        async with Ingress(shop.engine, lambda _hint: None) as ingress:
            with _no_order_gets_in(shop):
                flushing = asyncio.create_task(ingress.accept(_order(tenant_id, "flushing")))
                await asyncio.sleep(0.05)
                waiting = [asyncio.create_task(ingress.accept(_order(tenant_id, f"w{n}"))) for n in range(3)]
                await asyncio.sleep(0)
                started_at = time.monotonic()
                refused = await _gathered(ingress, _order(tenant_id, "refused"))
                took_s = time.monotonic() - started_at
            accepted = await asyncio.gather(flushing, *waiting)
            return [*refused, *accepted, await ingress.accept(_order(tenant_id, "after"))], took_s

    (refused, *accepted), took_s = asyncio.run(run())
    assert isinstance(refused, Overloaded)
    assert took_s < 0.1
    assert [type(answer) for answer in accepted] == [AcceptedOrder] * 5
    assert (
        shop.scalar("SELECT count(*) FROM orders WHERE idempotency_key = 'refused' AND tenant_id = :t", t=tenant_id)
        == 0
    )


def test_leaving_it_answers_everything_that_waits_and_takes_nothing_new(shop: Shop, tenant_id: UUID) -> None:
    async def run() -> list[AcceptedOrder | BaseException]:
        ingress = Ingress(shop.engine, lambda _hint: None)
        async with ingress:
            with _no_order_gets_in(shop):
                waiting = asyncio.gather(*(ingress.accept(_order(tenant_id, f"k{n}")) for n in range(20)))
                await asyncio.sleep(0.05)
                leaving = asyncio.create_task(ingress.__aexit__())
                await asyncio.sleep(0.05)
                assert not leaving.done()
                late = await _gathered(ingress, _order(tenant_id, "late"))
            await leaving
        return [*late, *await waiting]

    late, *answers = asyncio.run(run())
    assert isinstance(late, Overloaded)
    assert [type(answer) for answer in answers] == [AcceptedOrder] * 20
    assert shop.scalar("SELECT count(*) FROM orders WHERE tenant_id = :t", t=tenant_id) == 20


def test_a_caller_who_was_told_503_before_its_turn_has_no_order(
    shop: Shop, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ingress, "DEADLINE_S", 0.2)

    async def run() -> list[AcceptedOrder | BaseException]:
        async with Ingress(shop.engine, lambda _hint: None) as ingress:
            with _no_order_gets_in(shop):
                under_way = asyncio.create_task(_gathered(ingress, _order(tenant_id, "under way")))
                await asyncio.sleep(0.05)
                return [*await _gathered(ingress, _order(tenant_id, "waiting")), *await under_way]

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [DependencyUnavailable] * 2
    stored = "SELECT string_agg(idempotency_key, ',') FROM orders WHERE tenant_id = :t"
    assert shop.scalar(stored, t=tenant_id) == "under way"


class TestThroughHttp:
    def test_a_commit_in_doubt_is_503_and_the_same_key_finds_the_order(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        customer.stocked("MUG")
        monkeypatch.setattr(api.ingress, "DEADLINE_S", 0.3)
        with _no_order_gets_in(customer.shop):
            started_at = time.monotonic()
            response = customer.order(key="doubtful")
            assert time.monotonic() - started_at < 2.0
            error_of(response, 503, "DEPENDENCY_UNAVAILABLE")
            assert response.headers["Retry-After"] == "1"
        monkeypatch.setattr(api.ingress, "DEADLINE_S", 5.0)
        again = customer.order(key="doubtful")
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
        assert customer.rows()["orders"] == customer.rows()["outbox"] == 1

    def test_too_much_waiting_is_503_with_a_time_to_come_back(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        customer.stocked("MUG")
        monkeypatch.setattr(api.ingress, "MOST_WAITING", 1)
        with ThreadPoolExecutor(8) as threads:
            with _no_order_gets_in(customer.shop):
                posts = [threads.submit(customer.order, key=f"k{n}") for n in range(8)]
                while sum(post.done() for post in posts) < 5:
                    time.sleep(0.01)
            answers = [post.result() for post in posts]
        accepted = [answer for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert len(accepted) >= 1
        assert len(refused) >= 5
        for answer in refused:
            error_of(answer, 503, "OVERLOADED")
            assert answer.headers["Retry-After"] == "1"
        assert customer.rows()["orders"] == len(accepted)

    def test_what_breaks_the_intake_breaks_one_flush_only(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
    ) -> None:
        customer.stocked("MUG")
        with monkeypatch.context() as patch:
            patch.setattr(api.ingress, "accept_orders", lambda *_: 1 / 0)
            error_of(customer.order(key="unlucky"), 500, "INTERNAL_ERROR")
        assert customer.order(key="unlucky").status_code == 202
        (failed,) = (entry for entry in logs if entry["event"] == "request.failed")
        assert isinstance(failed["exc_info"].__cause__, ZeroDivisionError)


class TestOverABrokenWire:
    @pytest.fixture
    def wire(self, shop: Shop, tmp_path: Path) -> Iterator[tuple[Wire, Shop]]:
        """The same shop, reached through an application whose wire to PostgreSQL a test can break."""
        with (
            wire_to(shop.settings.database_url) as (wire, url),
            opened(settings_for(url, shop.settings.redis_url, tmp_path)) as client,
        ):
            yield wire, Shop(client, shop.engine, shop.settings)

    @pytest.mark.parametrize("lost", ["request", "reply"])
    def test_a_connection_lost_at_the_commit_is_503_and_the_same_key_resolves_it(
        self, wire: tuple[Wire, Shop], lost: str
    ) -> None:
        # Given an order whose commit never reaches PostgreSQL, or whose confirmation never comes back
        cut, shop = wire
        customer = shop.customer()
        customer.stocked("MUG")
        getattr(cut, f"lose_{lost}")(b"at-the-commit")
        # When it is posted, nobody knows
        answer = customer.order(key="at-the-commit")
        assert cut.seen.is_set()
        error_of(answer, 503, "DEPENDENCY_UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
        # Then the same key finds the order or makes it, once
        again = customer.order(key="at-the-commit")
        assert again.status_code == 202
        assert ("Idempotent-Replayed" in again.headers) == (lost == "reply")
        assert customer.rows()["orders"] == customer.rows()["jobs"] == customer.rows()["outbox"] == 1

    def test_the_neighbours_of_a_lost_commit_are_as_unsure_and_none_is_stored_twice(
        self, wire: tuple[Wire, Shop]
    ) -> None:
        cut, shop = wire
        customer = shop.customer()
        customer.stocked("MUG")
        cut.lose_reply(b"key-11")
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda number: customer.order(key=f"key-{number}"), range(10, 26)))
            statuses = [answer.status_code for answer in answers]
            assert set(statuses) == {202, 503} or set(statuses) == {503}
            again = list(threads.map(lambda number: customer.order(key=f"key-{number}"), range(10, 26)))
        assert {answer.status_code for answer in again} == {202}
        for first, second in zip(answers, again, strict=True):
            assert first.status_code == 503 or first.json() == second.json()
        assert customer.rows()["orders"] == customer.rows()["jobs"] == 16

    def test_nothing_is_answered_before_its_commit_is_known(self, wire: tuple[Wire, Shop]) -> None:
        # Given a commit whose confirmation takes its time
        cut, shop = wire
        customer = shop.customer()
        customer.stocked("MUG")
        cut.hold_reply(b"patience")
        with ThreadPoolExecutor(1) as threads:
            post = threads.submit(customer.order, key="patience")
            assert cut.seen.wait(10)
            # When PostgreSQL has committed, the caller still waits
            assert customer.rows()["orders"] == 1
            assert not post.done()
            # Then it hears when the intake does
            cut.reply_may_pass.set()
            answer = post.result(10)
        assert answer.status_code == 202
        assert "Idempotent-Replayed" not in answer.headers
