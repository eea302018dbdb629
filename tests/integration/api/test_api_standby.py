"""A primary whose commits wait for a standby: what the standby may lack has not succeeded, whoever asks about it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from httpx import Response
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from domain.database import connect
from domain.standby import NotReplicated
from ops.chaos.standby import LINK, Pair
from ops.chaos.wires import Bend, Wires
from ops.migrate import head, upgrade
from ops.stack import Stack
from tests.end_to_end.running import wait_until
from tests.integration.api.shop import V1, Customer, Shop, error_of, opened, settings_for

CANCEL = """
    SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
     WHERE wait_event = 'SyncRep' AND application_name <> 'longshore-chaos'
"""
_LOADED = "SELECT pg_conf_load_time()"
WORD = "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), :name)"


class Standing:
    """The shop on such a pair."""

    def __init__(self, shop: Shop, pair: Pair, wires: Wires) -> None:
        self.shop, self.pair, self._wires = shop, pair, wires

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Meanwhile nothing reaches the standby."""
        self._wires.bend(LINK, Bend(swallow=True))
        try:
            yield
        finally:
            self._wires.straighten(LINK)
            self.pair.wait_until_in_step()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Meanwhile the primary is as a standby is until it is promoted."""
        self._set("default_transaction_read_only = on")
        try:
            yield
        finally:
            self._set("default_transaction_read_only = off")

    def _set(self, setting: str) -> None:
        before = self.pair.ask_primary(_LOADED)
        self.pair.ask_primary(f"ALTER SYSTEM SET {setting}")
        self.pair.ask_primary("SELECT pg_reload_conf()")
        while self.pair.ask_primary(_LOADED) == before:
            time.sleep(0.02)

    def cancelled(self, act: Callable[[], Response]) -> Response:
        """The answer, where each wait for the standby is cancelled as soon as it begins."""
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(act)
            while not wait([answer], 0.02).done:
                self.pair.ask_primary(CANCEL)
        return answer.result()

    def on_standby(self, order_id: UUID) -> bool:
        query = "SELECT EXISTS (SELECT FROM orders WHERE id = %(id)s)"
        return bool(self.pair.ask(self.pair.standby, query, id=order_id))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder: Path = tmp_path_factory.mktemp("standing")
    with Wires(1) as wires, Stack(folder / "stack") as stack:
        upgrade(stack.database_url)
        with Pair(stack, wires) as pair:
            settings = settings_for(stack.database_url, stack.redis_url, folder)
            engine = connect(stack.database_url, process="test", pool_size=10)
            with opened(settings, head()) as client:
                yield Standing(Shop(client, engine, settings), pair, wires)
            engine.dispose()


@pytest.fixture
def customer(standing: Standing) -> Customer:
    customer = standing.shop.customer()
    customer.stocked("MUG")
    return customer


def committed(standing: Standing, name: str) -> int:
    found: int = standing.shop.scalar("SELECT count(*) FROM tenants WHERE name = :name", name=name)
    return found


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "AUTOCOMMIT"])
def test_a_commit_that_did_not_wait_to_the_end_raises_and_its_connection_serves_on(
    standing: Standing, isolation: str
) -> None:
    with standing.shop.engine.connect().execution_options(isolation_level=isolation) as connection, standing.deaf():
        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(_write, connection, isolation)
            while not wait([writing], 0.02).done:
                standing.pair.ask_primary(CANCEL)
        error = writing.exception()
        assert isinstance(error, OperationalError)
        assert isinstance(error.orig, NotReplicated)
        assert committed(standing, isolation) == 1
        connection.rollback()
        assert connection.execute(text("SELECT 1")).scalar() == 1
        connection.commit()


def _write(connection: Connection, name: str) -> None:
    connection.execute(text(WORD), {"name": name})
    connection.commit()


def test_an_order_is_accepted_once_the_standby_has_it_and_no_sooner(standing: Standing, customer: Customer) -> None:
    with standing.deaf():
        error_of(standing.cancelled(lambda: customer.order(key="one")), 503, "DEPENDENCY_UNAVAILABLE")
        assert customer.rows()["orders"] == 1  # everybody can see it here
        error_of(standing.cancelled(lambda: customer.order(key="one")), 503, "DEPENDENCY_UNAVAILABLE")
        error_of(customer.order(key="one"), 503, "DEPENDENCY_UNAVAILABLE")  # nobody cancels: the deadline answers
    answer = customer.order(key="one")
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")
    assert standing.on_standby(answer.json()["data"]["order"]["id"])
    assert customer.rows()["orders"] == 1


def test_other_writes_are_not_reported_as_done_either(standing: Standing, customer: Customer) -> None:
    order_id, _ = customer.ordered()
    with standing.deaf():
        new = {"sku": "CUP", "name": "Cup", "price": 3, "stock": 1}
        error_of(standing.cancelled(lambda: customer.post("/products", new)), 503, "DEPENDENCY_UNAVAILABLE")
        cancel = f"/orders/{order_id}/cancel"
        error_of(standing.cancelled(lambda: customer.post(cancel)), 503, "DEPENDENCY_UNAVAILABLE")


def test_who_waits_for_the_standby_too_long_is_answered_and_leaves_no_session_behind(
    standing: Standing, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.parts.SILENCE_S", 0.5)
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'longshore-api'"
    )
    with opened(standing.shop.settings, head()) as client, standing.deaf():
        for number in range(3):
            new = {"sku": f"CUP-{number}", "name": "Cup", "price": 3, "currency": "USD"}
            answer = client.post(f"{V1}/products", headers={"X-API-Key": customer.key}, json=new)
            error_of(answer, 503, "DEPENDENCY_UNAVAILABLE")
        wait_until(lambda: standing.pair.ask_primary(waiting) == 0)
    assert customer.get("/products").json()["data"][0]["sku"] == "CUP-2"  # what nobody knew for sure


def test_a_server_that_takes_no_writes_yet_is_an_outage(standing: Standing, customer: Customer) -> None:
    with standing.read_only():
        error_of(customer.order(key="two"), 503, "DEPENDENCY_UNAVAILABLE")
        new = {"sku": "CUP", "name": "Cup", "price": 3, "stock": 1}
        error_of(customer.post("/products", new), 503, "DEPENDENCY_UNAVAILABLE")
    assert customer.order(key="two").status_code == 202
