"""Products and endpoints as they are changed: what is left out stays, what was stands in the audit log."""

from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain.lanes.lanes import endpoint_lane
from domain.tenants.plan_rules import ENDPOINTS
from domain.webhooks.endpoints import disable_endpoint
from tests.integration.api.shop import V1, Customer, Shop, error_of, fields_of
from tests.integration.builders import at_once


def patch(customer: Customer, path: str, body: object) -> Response:
    return customer.send("PATCH", V1 + path, json=body)


def acts(customer: Customer, subject: UUID) -> list[tuple[str, str, Any]]:
    """Who did what to it, oldest first."""
    with customer.shop.engine.begin() as tx:
        found = tx.execute(
            text("SELECT actor, action, detail FROM audit_log WHERE subject = :s AND tenant_id = :t ORDER BY position"),
            {"s": str(subject), "t": customer.tenant_id},
        )
        return [
            (actor, action, {name: detail[name] for name in ("old", "new") if name in detail})
            for actor, action, detail in found
            if detail["ip"]
        ]


class TestProducts:
    def test_a_name_and_a_price_are_changed_and_what_they_were_is_audited(self, customer: Customer) -> None:
        product_id = customer.stocked("CUP", price=12.5, stock=3)
        before = customer.get(f"/products/{product_id}").json()["data"]
        answer = patch(customer, f"/products/{product_id}", {"price": 9.99})
        assert (answer.status_code, answer.json()["data"]) == (200, {**before, "price": 9.99, "version": 2})
        answer = patch(customer, f"/products/{product_id}", {"name": "  Big\0 cup ", "price": 9.99})
        assert answer.json()["data"] == {**before, "price": 9.99, "name": "Big cup", "version": 3}
        assert answer.headers["ETag"] == customer.get(f"/products/{product_id}").headers["ETag"]
        actor = f"key:{customer.key.split('_')[2]}"
        assert acts(customer, product_id) == [
            (actor, "product.created", {"new": {"sku": "CUP", "name": "Cup", "price": 1250}}),
            (actor, "product.changed", {"old": {"price": 1250}, "new": {"price": 999}}),
            (actor, "product.changed", {"old": {"name": "Cup"}, "new": {"name": "Big cup"}}),
        ]

    def test_orders_keep_the_price_at_which_they_were_posted(self, customer: Customer) -> None:
        product_id = customer.stocked("CUP", price=10)
        before, _ = customer.ordered("CUP", 2)
        patch(customer, f"/products/{product_id}", {"price": 11})
        after, _ = customer.ordered("CUP", 2)
        totals = [customer.get(f"/orders/{order}").json()["data"]["order"]["total"] for order in (before, after)]
        assert totals == [20, 22]

    @pytest.mark.parametrize("body", [{}, {"name": "Cup"}, {"price": 12.5, "name": " Cup"}])
    def test_what_changes_nothing_is_no_new_version_and_no_act(self, customer: Customer, body: dict[str, Any]) -> None:
        product_id = customer.stocked("CUP", price=12.5)
        answer = patch(customer, f"/products/{product_id}", body)
        assert (answer.status_code, answer.json()["data"]["version"]) == (200, 1)
        assert len(acts(customer, product_id)) == 1

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": " \0"}, "name"),
            ({"name": None}, "name"),
            ({"name": "c" * 201}, "name"),
            ({"price": -1}, "price"),
            ({"price": 0.001}, "price"),
            ({"price": "1"}, "price"),
            ({"price": None}, "price"),
            ({"sku": "NEW"}, "sku"),
            ({"currency": "EUR"}, "currency"),
            ({"version": 7}, "version"),
        ],
    )
    def test_nothing_else_can_be_changed(self, customer: Customer, body: dict[str, Any], field: str) -> None:
        product_id = customer.stocked("CUP")
        before = customer.get(f"/products/{product_id}").content
        error = error_of(patch(customer, f"/products/{product_id}", body), 422, "VALIDATION_ERROR")
        assert fields_of(error) == [field]
        assert customer.get(f"/products/{product_id}").content == before


class TestEndpoints:
    @staticmethod
    def _lane(shop: Shop, endpoint_id: UUID) -> str:
        state: str = shop.scalar("SELECT state FROM lanes WHERE name = :n", n=endpoint_lane(endpoint_id))
        return state

    def test_each_field_is_changed_by_itself_and_what_it_was_is_audited(self, customer: Customer) -> None:
        endpoint_id = customer.subscribed("order.confirmed")
        path = f"/webhook-endpoints/{endpoint_id}"
        before = customer.get(path).json()["data"]
        retry = {"maxAttempts": 3, "baseSeconds": 1.0, "capSeconds": 60.0}
        steps: list[dict[str, Any]] = [{"url": "https://example.com/new"}, {"eventTypes": ["*", "*"]}, {"retry": retry}]
        for step in steps:
            assert patch(customer, path, step).status_code == 200
        after = {**before, "url": "https://example.com/new", "eventTypes": ["*"], "version": 4}
        assert customer.get(path).json()["data"] == after
        assert patch(customer, path, {"retry": None}).json()["data"]["version"] == 5
        assert patch(customer, path, {"retry": None, **steps[0], "status": "enabled"}).json()["data"]["version"] == 5
        created, *changed = acts(customer, endpoint_id)
        assert created[1:] == (
            "webhook_endpoint.created",
            {"new": {"url": before["url"], "eventTypes": ["order.confirmed"], "retry": None, "enabled": True}},
        )
        assert {action for _, action, _ in changed} == {"webhook_endpoint.changed"}
        assert [detail for _, _, detail in changed] == [
            {"old": {"url": before["url"]}, "new": {"url": "https://example.com/new"}},
            {"old": {"eventTypes": ["order.confirmed"]}, "new": {"eventTypes": ["*"]}},
            {"old": {"retry": None}, "new": {"retry": retry}},
            {"old": {"retry": retry}, "new": {"retry": None}},
        ]
        customer.send("DELETE", V1 + path)
        assert acts(customer, endpoint_id)[-1][1:] == ("webhook_endpoint.deleted", {})

    def test_its_owner_opens_an_endpoint_that_asked_for_no_more(self, customer: Customer) -> None:
        endpoint_id, shop = customer.subscribed(), customer.shop
        with shop.engine.begin() as tx:
            assert disable_endpoint(tx, customer.tenant_id, endpoint_id, 1, "HTTP 410")
        path = f"/webhook-endpoints/{endpoint_id}"
        told = customer.get(path).json()["data"]
        assert (told["status"], told["disabledReason"], self._lane(shop, endpoint_id)) == (
            "disabled",
            "HTTP 410",
            "disabled",
        )
        told = patch(customer, path, {"status": "enabled"}).json()["data"]
        assert (told["status"], told["disabledReason"], self._lane(shop, endpoint_id)) == ("enabled", None, "healthy")

    def test_its_owner_closes_it_and_what_happens_meanwhile_waits(self, customer: Customer) -> None:
        customer.stocked()
        endpoint_id, shop = customer.subscribed("order.confirmed"), customer.shop
        path = f"/webhook-endpoints/{endpoint_id}"
        told = patch(customer, path, {"status": "disabled"}).json()["data"]
        assert (told["disabledReason"], self._lane(shop, endpoint_id)) == ("disabled by its owner", "disabled")
        assert patch(customer, path, {"status": "disabled"}).json()["data"]["version"] == told["version"]
        shop.work(customer.ordered()[1])
        waiting = "SELECT count(*) FROM outbox WHERE lane = :lane"
        assert shop.scalar(waiting, lane=endpoint_lane(endpoint_id)) == 1
        patch(customer, path, {"status": "enabled"})
        assert self._lane(shop, endpoint_id) == "healthy"
        assert shop.scalar(waiting, lane=endpoint_lane(endpoint_id)) == 1

    def test_a_tenant_has_as_many_as_its_plan_buys_also_of_those_that_are_made_at_once(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ENDPOINTS, "basic", 3)
        kept, *_ = [customer.subscribed() for _ in range(2)]
        body = {"url": "https://example.com/hook", "eventTypes": ["*"]}
        made = at_once(*[lambda: customer.post("/webhook-endpoints", body)] * 4)
        (refused, *more), (_,) = (
            [answer for answer in made if isinstance(answer, Response) and answer.status_code == status]
            for status in (409, 201)
        )
        assert len(more) == 2
        assert error_of(refused, 409, "PLAN_EXHAUSTED")["message"].startswith("The plan basic has room for 3 webhook")
        # Then another tenant has room, and who deletes one, or buys more
        customer.shop.customer().subscribed()
        assert customer.send("DELETE", f"{V1}/webhook-endpoints/{kept}").status_code == 204
        customer.subscribed()
        customer.shop.scalar("UPDATE tenants SET plan = 'pro' WHERE id = :id RETURNING 1", id=customer.tenant_id)
        customer.subscribed()

    def test_a_lane_that_is_parked_stays_so_until_the_endpoint_moves(self, customer: Customer) -> None:
        endpoint_id, shop = customer.subscribed(), customer.shop
        with shop.engine.begin() as tx:
            tx.execute(text("UPDATE lanes SET state = 'parked' WHERE name = :n"), {"n": endpoint_lane(endpoint_id)})
        path = f"/webhook-endpoints/{endpoint_id}"
        patch(customer, path, {"status": "enabled", "eventTypes": ["order.failed"]})
        assert self._lane(shop, endpoint_id) == "parked"
        patch(customer, path, {"url": "https://example.com/b"})
        assert self._lane(shop, endpoint_id) == "healthy"

    def test_an_endpoint_that_moves_while_it_is_disabled_stays_so(self, customer: Customer) -> None:
        endpoint_id = customer.subscribed()
        patch(customer, f"/webhook-endpoints/{endpoint_id}", {"status": "disabled"})
        patch(customer, f"/webhook-endpoints/{endpoint_id}", {"url": "https://example.com/b"})
        assert self._lane(customer.shop, endpoint_id) == "disabled"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"url": "http://localhost/"}, "url"),
            ({"url": None}, "url"),
            ({"url": "https://example.com/\0"}, "url"),
            ({"eventTypes": []}, "eventTypes"),
            ({"eventTypes": ["order.eaten"]}, "eventTypes[0]"),
            ({"retry": {"maxAttempts": 0, "baseSeconds": 1}}, "retry"),
            ({"status": "paused"}, "status"),
            ({"secret": "whsec_x"}, "secret"),
        ],
    )
    def test_what_could_not_be_created_cannot_be_changed_into(
        self, customer: Customer, body: dict[str, Any], field: str
    ) -> None:
        path = f"/webhook-endpoints/{customer.subscribed()}"
        before = customer.get(path).content
        assert fields_of(error_of(patch(customer, path, body), 422, "VALIDATION_ERROR")) == [field]
        assert customer.get(path).content == before


def test_addresses_are_kept_in_lower_case_without_the_space_around_them(customer: Customer) -> None:
    customer.stocked()
    order = {"customerEmail": "  Ada@Example.COM\t", "currency": "USD", "lines": [{"sku": "MUG", "quantity": 1}]}
    first = customer.post("/orders", order, Idempotency_Key="k")
    order_id = first.json()["data"]["order"]["id"]
    shown = customer.get(f"/orders/{order_id}").json()["data"]["order"]
    assert shown["customerEmail"] == "ada@example.com"
    again = customer.post("/orders", {**order, "customerEmail": "ada@example.com"}, Idempotency_Key="k")
    assert again.content == first.content


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("products", "name = repeat('c', 201)"),
        ("products", "sku = repeat('c', 65)"),
        ("webhook_endpoints", "url = repeat('u', 2049)"),
        ("orders", "customer_email = repeat('e', 255)"),
    ],
)
def test_the_database_has_the_same_bounds(customer: Customer, table: str, change: str) -> None:
    customer.stocked()
    customer.ordered()
    customer.subscribed()
    with pytest.raises(IntegrityError, match=f"ck_{table}_length"), customer.shop.engine.begin() as tx:
        tx.execute(text(f"UPDATE {table} SET {change} WHERE tenant_id = :t"), {"t": customer.tenant_id})
