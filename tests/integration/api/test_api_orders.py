"""Orders over HTTP: 202 when durable, the same answer for the same key, one order for many twins, and what follows."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from domain.jobs.retry_policy import Errored
from domain.jobs.state_machine import JobState
from tests.integration.api.shop import Customer, error_of, fields_of, ids_of, walk

ORDER: dict[str, Any] = {
    "customerEmail": "ada@example.com",
    "currency": "USD",
    "lines": [{"sku": "MUG", "quantity": 2}],
}


@pytest.fixture
def buyer(customer: Customer) -> Customer:
    customer.stocked("MUG", price=12.5, stock=10)
    return customer


class TestAccepting:
    def test_a_202_says_where_to_look_and_what_was_accepted(self, buyer: Customer) -> None:
        response = buyer.post("/orders", ORDER, Idempotency_Key="k")
        assert response.status_code == 202
        body = response.json()
        assert list(body) == ["success", "data", "links"]
        assert body["success"] is True
        order, job = body["data"]["order"], body["data"]["job"]
        assert (list(order), order["status"]) == (["id", "status", "createdAt"], "accepted")
        assert job == {
            "id": job["id"],
            "kind": "inventory.reserve",
            "state": "queued",
            "done": False,
            "createdAt": order["createdAt"],
        }
        assert {UUID(order["id"]).version, UUID(job["id"]).version} == {7}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", order["createdAt"])
        assert response.headers["Location"] == body["links"]["self"] == f"/api/v1/jobs/{job['id']}"
        assert response.headers["Retry-After"] == "1"
        assert body["links"]["order"] == f"/api/v1/orders/{order['id']}"
        assert buyer.send("GET", body["links"]["order"]).status_code == 200
        assert "Idempotent-Replayed" not in response.headers

    def test_what_was_accepted_is_stored_with_its_job_and_its_obligation(self, buyer: Customer) -> None:
        before = buyer.rows()
        buyer.ordered()
        after = buyer.rows()
        assert {table for table in after if after[table] != before[table]} == {
            "orders",
            "order_lines",
            "jobs",
            "outbox",
        }
        assert [after[table] - before[table] for table in ("orders", "order_lines", "jobs", "outbox")] == [1, 1, 1, 1]

    def test_an_order_is_read_with_numbers_for_money_and_its_timeline(self, buyer: Customer) -> None:
        response = buyer.post("/orders", ORDER, Idempotency_Key="k")
        order_id, job_id = response.json()["data"]["order"]["id"], response.json()["data"]["job"]["id"]
        buyer.shop.work(UUID(job_id))
        raw = buyer.get(f"/orders/{order_id}")
        data = raw.json()["data"]
        assert '"total":25.0' in raw.text
        assert data["order"] == {
            "id": order_id,
            "status": "confirmed",
            "reason": None,
            "customerEmail": "ada@example.com",
            "currency": "USD",
            "total": 25.0,
            "version": 2,
            "createdAt": response.json()["data"]["order"]["createdAt"],
            "lines": [{"sku": "MUG", "quantity": 2, "unitPrice": 12.5}],
        }
        root, mail = data["timeline"]
        assert (root["job"]["id"], root["job"]["state"], root["job"]["done"]) == (job_id, "succeeded", True)
        assert root["job"]["result"]["code"] == "ORDER_CONFIRMED"
        (attempt,) = root["attempts"]
        assert (attempt["number"], attempt["outcome"]) == (1, "succeeded")
        assert datetime.fromisoformat(attempt["startedAt"]) <= datetime.fromisoformat(attempt["finishedAt"])
        assert (mail["job"]["kind"], mail["job"]["state"], mail["attempts"]) == (
            "email.order_confirmed",
            "queued",
            [],
        )

    def test_money_keeps_the_places_of_its_currency(self, customer: Customer) -> None:
        customer.stocked("TEA", price=1200, currency="JPY")
        customer.stocked("OIL", price=0.001, currency="KWD")
        for sku, currency, total in (("TEA", "JPY", 3600), ("OIL", "KWD", 0.003)):
            body = {**ORDER, "currency": currency, "lines": [{"sku": sku, "quantity": 3}]}
            order_id = customer.post("/orders", body, Idempotency_Key=sku).json()["data"]["order"]["id"]
            assert customer.get(f"/orders/{order_id}").json()["data"]["order"]["total"] == total

    def test_too_little_stock_is_a_result_and_not_an_error(self, buyer: Customer) -> None:
        order_id, job_id = buyer.ordered("MUG", 11)
        buyer.shop.work(job_id)
        order = buyer.get(f"/orders/{order_id}").json()["data"]["order"]
        assert (order["status"], order["reason"]) == ("rejected", "INSUFFICIENT_STOCK")
        assert buyer.get(f"/jobs/{job_id}").json()["data"]["state"] == "succeeded"


class TestIdempotency:
    def test_the_same_key_and_body_replay_byte_for_byte_whatever_has_become_of_the_order(self, buyer: Customer) -> None:
        first = buyer.post("/orders", ORDER, Idempotency_Key="k")
        buyer.shop.work(UUID(first.json()["data"]["job"]["id"]))
        for key in ("k", '"k"'):
            again = buyer.post("/orders", ORDER, Idempotency_Key=key)
            assert (again.status_code, again.content) == (202, first.content)
            assert again.headers["Idempotent-Replayed"] == "true"
            assert again.headers["Location"] == first.headers["Location"]
        assert buyer.rows()["orders"] == 1

    def test_spelling_does_not_make_another_body(self, buyer: Customer) -> None:
        first = buyer.post("/orders", ORDER, Idempotency_Key='"k"')
        raw = b'{ "lines":[{"quantity":2,"sku":"MUG"}],\n"currency":"\\u0055SD", "customerEmail":"ada@example.com" }'
        assert buyer.post("/orders", raw=raw, Idempotency_Key="k").content == first.content

    def test_another_body_under_the_same_key_is_422(self, buyer: Customer) -> None:
        buyer.post("/orders", ORDER, Idempotency_Key="k")
        before = buyer.rows()
        response = buyer.post("/orders", {**ORDER, "customerEmail": "bob@example.com"}, Idempotency_Key="k")
        error_of(response, 422, "IDEMPOTENCY_KEY_REUSED")
        assert buyer.rows() == before

    def test_a_replay_wins_over_what_the_catalogue_says_now(self, buyer: Customer) -> None:
        first = buyer.post("/orders", ORDER, Idempotency_Key="k")
        with buyer.shop.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE products SET currency = 'EUR' WHERE tenant_id = %s", (buyer.tenant_id,))
        assert buyer.post("/orders", ORDER, Idempotency_Key="k").content == first.content
        error_of(buyer.post("/orders", ORDER, Idempotency_Key="new"), 422, "VALIDATION_ERROR")

    def test_two_tenants_may_use_the_same_key(self, buyer: Customer, other: Customer) -> None:
        other.stocked("MUG")
        mine, theirs = (who.post("/orders", ORDER, Idempotency_Key="k") for who in (buyer, other))
        assert mine.json()["data"]["order"]["id"] != theirs.json()["data"]["order"]["id"]

    def test_a_missing_key_is_400_but_a_bad_body_comes_first(self, buyer: Customer) -> None:
        before = buyer.rows()
        error_of(buyer.post("/orders", ORDER), 400, "IDEMPOTENCY_KEY_REQUIRED")
        error_of(buyer.post("/orders", {}), 422, "VALIDATION_ERROR")
        error_of(buyer.post("/orders", {**ORDER, "lines": ORDER["lines"] * 2}), 422, "VALIDATION_ERROR")
        error_of(buyer.post("/orders", raw=b"{"), 400, "MALFORMED_JSON")
        assert buyer.rows() == before

    @pytest.mark.parametrize("key", ["", '""', "k" * 256, "k\x01", "k\x7f", "clé", "k\tk"], ids=ascii)
    def test_a_key_that_is_empty_too_long_or_not_printable_is_400(self, buyer: Customer, key: str) -> None:
        headers = {b"Idempotency-Key": key.encode("latin-1"), b"X-API-Key": buyer.key.encode()}
        before = buyer.rows()
        response = buyer.shop.client.post("/api/v1/orders", json=ORDER, headers=headers)
        assert fields_of(error_of(response, 400, "VALIDATION_ERROR")) == ["Idempotency-Key"]
        assert buyer.rows() == before

    @pytest.mark.parametrize("key", ["k", "k" * 255, '"' + "k" * 255 + '"', "a b", "!~", "'; --", '"'], ids=ascii)
    def test_any_other_key_will_do(self, buyer: Customer, key: str) -> None:
        assert buyer.order(key=key).status_code == 202
        assert buyer.order(key=key).headers["Idempotent-Replayed"] == "true"

    def test_sixty_four_twins_at_once_make_one_order(self, buyer: Customer) -> None:
        before = buyer.rows()
        with ThreadPoolExecutor(64) as threads:
            answers = list(threads.map(lambda _: buyer.post("/orders", ORDER, Idempotency_Key="k"), range(64)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        after = buyer.rows()
        assert [after[table] - before[table] for table in ("orders", "order_lines", "jobs", "outbox")] == [1, 1, 1, 1]


class TestMoving:
    def test_a_confirmed_order_is_cancelled_by_a_job_which_frees_its_stock(self, buyer: Customer) -> None:
        order_id, job_id = buyer.ordered("MUG", 4)
        buyer.shop.work(job_id)
        response = buyer.post(f"/orders/{order_id}/cancel")
        assert response.status_code == 202
        job = response.json()["data"]
        assert (job["kind"], job["state"], job["done"], job["attempts"]) == ("inventory.release", "queued", False, 0)
        assert response.headers["Location"] == response.json()["links"]["self"] == f"/api/v1/jobs/{job['id']}"
        assert response.headers["Retry-After"] == "1"
        assert self._stock(buyer) == {"onHand": 10, "reserved": 4, "available": 6}
        buyer.shop.work(UUID(job["id"]))
        assert buyer.status(order_id) == "cancelled"
        assert self._stock(buyer) == {"onHand": 10, "reserved": 0, "available": 10}

    def test_a_confirmed_order_is_completed_by_a_job_which_takes_it_off_the_shelf(self, buyer: Customer) -> None:
        order_id, job_id = buyer.ordered("MUG", 4)
        buyer.shop.work(job_id)
        response = buyer.post(f"/orders/{order_id}/complete")
        assert (response.status_code, response.json()["data"]["kind"]) == (202, "inventory.ship")
        buyer.shop.work(UUID(response.json()["data"]["id"]))
        assert buyer.status(order_id) == "completed"
        assert self._stock(buyer) == {"onHand": 6, "reserved": 0, "available": 6}

    def test_an_order_that_is_not_yet_decided_may_be_cancelled_but_not_completed(self, buyer: Customer) -> None:
        order_id, _ = buyer.ordered()
        error_of(buyer.post(f"/orders/{order_id}/complete"), 409, "INVALID_STATE")
        assert buyer.post(f"/orders/{order_id}/cancel").status_code == 202

    @pytest.mark.parametrize("status", ["rejected", "failed", "completed", "cancelled"])
    def test_a_closed_order_is_neither_cancelled_nor_completed(self, buyer: Customer, status: str) -> None:
        order_id, _ = buyer.ordered()
        with buyer.shop.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE orders SET status = %s WHERE id = %s", (status, order_id))
        before = buyer.rows()
        assert status in error_of(buyer.post(f"/orders/{order_id}/cancel"), 409, "ORDER_NOT_CANCELLABLE")["message"]
        assert status in error_of(buyer.post(f"/orders/{order_id}/complete"), 409, "INVALID_STATE")["message"]
        assert buyer.rows() == before

    @staticmethod
    def _stock(buyer: Customer) -> dict[str, int]:
        found: dict[str, int] = buyer.get("/products").json()["data"][0]["stock"]
        return found


class TestJobs:
    def test_a_job_is_polled_with_200_to_its_end(self, buyer: Customer) -> None:
        _, job_id = buyer.ordered()
        waiting = buyer.get(f"/jobs/{job_id}")
        assert (waiting.status_code, waiting.headers["Retry-After"]) == (200, "1")
        assert waiting.json()["data"] == {
            "id": str(job_id),
            "kind": "inventory.reserve",
            "state": "queued",
            "done": False,
            "attempts": 0,
            "priority": 0,
            "progress": None,
            "createdAt": waiting.json()["data"]["createdAt"],
            "startedAt": None,
            "finishedAt": None,
            "result": None,
            "resultExpiresAt": None,
            "error": None,
            "deadlineAt": None,
            "parentId": None,
            "children": None,
        }
        buyer.shop.work(job_id)
        done = buyer.get(f"/jobs/{job_id}")
        assert (done.json()["data"]["state"], done.json()["data"]["done"]) == ("succeeded", True)
        assert "Retry-After" not in done.headers

    def test_a_job_that_gave_up_says_so_without_telling_what_the_error_said(self, buyer: Customer) -> None:
        _, job_id = buyer.ordered()
        job = buyer.shop.started(job_id)
        buyer.shop.end(job, Errored("PermanentFailure", "secret of the house", permanent=True))
        response = buyer.get(f"/jobs/{job_id}")
        data = response.json()["data"]
        assert (data["state"], data["done"], data["error"]["code"]) == ("dead", True, "PermanentFailure")
        assert "secret of the house" not in response.text
        assert buyer.get("/orders?status=failed").json()["data"][0]["reason"] == "RESERVATION_DEAD"

    def test_a_waiting_job_is_cancelled_at_once_and_a_finished_one_is_not(self, buyer: Customer) -> None:
        _, job_id = buyer.ordered()
        response = buyer.post(f"/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["data"]["state"]) == (202, "cancelled")
        error_of(buyer.post(f"/jobs/{job_id}/cancel"), 409, "INVALID_STATE")

    def test_a_running_job_is_asked_to_stop(self, buyer: Customer) -> None:
        _, job_id = buyer.ordered()
        buyer.shop.started(job_id)
        response = buyer.post(f"/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["data"]["state"]) == (202, "running")
        assert buyer.shop.scalar("SELECT cancel_requested_at IS NOT NULL FROM jobs WHERE id = :id", id=job_id)

    def test_the_list_is_filtered_by_state_and_kind(self, buyer: Customer) -> None:
        _, first = buyer.ordered()
        _, second = buyer.ordered()
        _, report = buyer.reported()
        buyer.shop.work(first)
        mail = buyer.shop.scalar("SELECT id FROM jobs WHERE kind = 'email.order_confirmed' AND tenant_id = :t",
                                 t=buyer.tenant_id)  # fmt: skip
        assert ids_of(buyer.get("/jobs")) == [str(mail), str(report), str(second), str(first)]
        assert ids_of(buyer.get("/jobs?state=succeeded")) == [str(first)]
        assert ids_of(buyer.get("/jobs?kind=inventory.reserve")) == [str(second), str(first)]
        assert ids_of(buyer.get("/jobs?kind=report.generate&state=queued")) == [str(report)]
        assert ids_of(buyer.get("/jobs?kind=no.such")) == []

    def test_every_state_can_be_asked_for_and_shows_the_jobs_in_it(self, buyer: Customer, other: Customer) -> None:
        _, queued = buyer.ordered()
        buyer.shop.started(buyer.ordered()[1])
        running = buyer.get("/jobs").json()["data"][0]["id"]
        buyer.shop.started(other.reported()[1])
        _, cancelled = buyer.ordered()
        buyer.post(f"/jobs/{cancelled}/cancel")
        dead = buyer.shop.scalar("SELECT job_id FROM dead_letters WHERE id = :id", id=buyer.buried())
        found = {state.value: ids_of(buyer.get(f"/jobs?state={state}")) for state in JobState}
        expected = {"queued": queued, "running": running, "cancelled": cancelled, "dead": dead}
        assert {state: ids for state, ids in found.items() if ids} == {
            name: [str(id_)] for name, id_ in expected.items()
        }

    def test_an_orders_jobs_are_its_own(self, buyer: Customer) -> None:
        order_id, job_id = buyer.ordered()
        buyer.ordered()
        assert ids_of(buyer.get(f"/orders/{order_id}/jobs")) == [str(job_id)]


class TestPages:
    @pytest.mark.parametrize("path", ["/orders", "/jobs", "/jobs?kind=inventory.reserve", "/orders?status=accepted"])
    def test_a_walk_meets_every_row_once_while_others_are_added(self, buyer: Customer, path: str) -> None:
        position = 0 if path.startswith("/orders") else 1
        known = [str(buyer.ordered()[position]) for _ in range(11)]
        pages, cursor = [], ""
        while True:
            joint = "&" if "?" in path else "?"
            response = buyer.get(f"{path}{joint}limit=3{cursor}")
            pages.append(ids_of(response))
            buyer.ordered()
            if not (found := response.json()["pagination"])["hasMore"]:
                break
            cursor = f"&cursor={found['nextCursor']}"
        assert [len(page) for page in pages] == [3, 3, 3, 2]
        assert [id_ for page in pages for id_ in page] == known[::-1]
        assert found == {"nextCursor": None, "hasMore": False}

    def test_rows_of_one_instant_are_met_once_too(self, buyer: Customer) -> None:
        known = {str(buyer.ordered()[0]) for _ in range(7)}
        with buyer.shop.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE orders SET created_at = now() WHERE tenant_id = %s", (buyer.tenant_id,))
        pages = walk(buyer, "/orders", 2)
        assert [len(page) for page in pages] == [2, 2, 2, 1]
        assert {id_ for page in pages for id_ in page} == known

    def test_a_page_holds_50_unless_told_otherwise_and_100_at_most(self, buyer: Customer) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: buyer.ordered(), range(101)))
        assert [len(ids_of(buyer.get(f"/orders{query}"))) for query in ("", "?limit=1", "?limit=100")] == [50, 1, 100]
        assert [len(page) for page in walk(buyer, "/jobs", 100)] == [100, 1]

    def test_a_page_that_is_exactly_full_is_the_last(self, buyer: Customer) -> None:
        for _ in range(2):
            buyer.ordered()
        assert [len(page) for page in walk(buyer, "/orders", 2)] == [2]

    def test_a_cursor_is_good_for_its_own_list_and_filters_only(self, buyer: Customer) -> None:
        for _ in range(2):
            buyer.ordered()
        cursor = buyer.get("/orders?limit=1").json()["pagination"]["nextCursor"]
        assert buyer.get(f"/orders?limit=1&cursor={cursor}").status_code == 200
        for path in ("/orders?status=accepted&", "/jobs?", "/products?", "/reports?"):
            error_of(buyer.get(f"{path}cursor={cursor}"), 400, "INVALID_CURSOR")

    @pytest.mark.parametrize("cursor", ["x", "AAAA", "!!!!", "gA", "k8QQ", "é", "A" * 500])
    def test_a_cursor_that_no_list_made_is_400(self, buyer: Customer, cursor: str) -> None:
        for path in ("/orders", "/jobs", "/products", "/reports", "/webhook-endpoints", "/admin/dead-letters"):
            error_of(buyer.get(f"{path}?cursor={cursor}"), 400, "INVALID_CURSOR")

    def test_a_cursor_shows_another_tenant_their_own_rows_only(self, buyer: Customer, other: Customer) -> None:
        for _ in range(2):
            buyer.ordered()
        cursor = buyer.get("/orders?limit=1").json()["pagination"]["nextCursor"]
        assert ids_of(other.get(f"/orders?cursor={cursor}")) == []
