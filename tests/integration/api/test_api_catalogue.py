"""Products and their stock, reports and their files, webhook endpoints and their secrets, as tenants meet them."""

import csv
import io
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from domain.ids import new_id
from domain.jobs.attempts import start_if_due
from domain.lanes.lanes import endpoint_lane
from domain.webhooks.deletion import LITTLE
from tests.integration.api.shop import Customer, error_of, fields_of, ids_of
from workers.retention import retain


class TestProducts:
    def test_a_product_is_created_with_201_and_read_back_as_it_was_answered(self, customer: Customer) -> None:
        body = {"sku": "MUG-1", "name": "Mug", "price": 12.5, "stock": 3, "currency": "EUR"}
        response = customer.post("/products", body)
        assert response.status_code == 201
        data = response.json()["data"]
        assert response.headers["Location"] == f"/api/v1/products/{data['id']}"
        assert data == {
            **body,
            "id": data["id"],
            "stock": {"onHand": 3, "reserved": 0, "available": 3},
            "version": 1,
            "createdAt": data["createdAt"],
        }
        assert customer.send("GET", response.headers["Location"]).json() == {"success": True, "data": data}
        assert customer.get("/products").json()["data"] == [data]

    def test_currency_and_stock_have_defaults(self, customer: Customer) -> None:
        data = customer.post("/products", {"sku": "A", "name": "A", "price": 0}).json()["data"]
        assert (data["currency"], data["stock"]["onHand"], data["price"]) == ("USD", 0, 0)

    def test_a_sku_is_taken_once_per_tenant(self, customer: Customer, other: Customer) -> None:
        customer.stocked("MUG")
        before = customer.rows()
        response = customer.post("/products", {"sku": "MUG", "name": "Another", "price": 1, "stock": 7})
        assert "MUG" in error_of(response, 409, "DUPLICATE_RESOURCE")["message"]
        assert customer.rows() == before
        other.stocked("MUG")

    def test_an_adjustment_moves_stock_up_and_down_to_zero(self, customer: Customer) -> None:
        product_id = customer.stocked(stock=5)
        path = f"/products/{product_id}/stock-adjustments"
        for delta, left in ((3, 8), (-8, 0), (0, 0), (1, 1)):
            response = customer.post(path, {"delta": delta})
            assert (response.status_code, response.json()["data"]["stock"]["onHand"]) == (201, left)
        ledger = "SELECT sum(on_hand_delta) FROM stock_ledger WHERE tenant_id = :tenant_id"
        assert customer.shop.scalar(ledger, tenant_id=customer.tenant_id) == 1

    def test_what_is_promised_cannot_be_taken_away(self, customer: Customer) -> None:
        product_id = customer.stocked(stock=5)
        _, job_id = customer.ordered("MUG", 4)
        customer.shop.work(job_id)
        before = customer.rows()
        path = f"/products/{product_id}/stock-adjustments"
        error = error_of(customer.post(path, {"delta": -2}), 422, "INSUFFICIENT_STOCK")
        assert error["message"] == "MUG has 1 units free, fewer than asked for."
        assert customer.rows() == before
        assert customer.post(path, {"delta": -1}).status_code == 201

    def test_stock_beyond_what_is_counted_is_refused(self, customer: Customer) -> None:
        product_id = customer.stocked(stock=1_000_000_000)
        path = f"/products/{product_id}/stock-adjustments"
        assert customer.post(path, {"delta": 1_000_000_000}).status_code == 201
        before = customer.rows()
        error = error_of(customer.post(path, {"delta": 1_000_000_000}), 422, "VALIDATION_ERROR")
        assert fields_of(error) == ["delta"]
        assert customer.rows() == before


class TestReports:
    def test_a_report_is_accepted_with_202_and_downloaded_once_it_is_whole(self, customer: Customer) -> None:
        customer.stocked(price=12.5)
        order_id, order_job = customer.ordered("MUG", 2)
        customer.shop.work(order_job)
        body = {"type": "orders", "from": "2026-01-01T01:00:00+01:00", "to": "2126-01-01T00:00:00Z"}
        response = customer.post("/reports", body)
        report = response.json()["data"]
        assert response.status_code == 202
        assert response.headers["Location"] == response.json()["links"]["job"] == f"/api/v1/jobs/{report['jobId']}"
        assert response.headers["Retry-After"] == "1"
        assert report == {
            "id": report["id"],
            "type": "orders",
            "format": "csv",
            "from": "2026-01-01T00:00:00Z",
            "to": "2126-01-01T00:00:00Z",
            "state": "queued",
            "jobId": report["jobId"],
            "rows": None,
            "bytes": None,
            "createdAt": report["createdAt"],
        }
        one = customer.get(f"/reports/{report['id']}").json()
        assert (one["data"], "links" in one) == (report, False)
        download = f"/reports/{report['id']}/download"
        assert "queued" in error_of(customer.get(download), 409, "JOB_NOT_FINISHED")["message"]

        customer.shop.work(UUID(report["jobId"]))
        whole = customer.get(f"/reports/{report['id']}").json()
        file = customer.get(download)
        assert whole["links"] == {"download": f"/api/v1{download}"}
        assert (whole["data"]["state"], whole["data"]["rows"]) == ("succeeded", 1)
        assert whole["data"]["bytes"] == len(file.content)
        assert file.headers["Content-Type"].startswith("text/csv")
        assert file.headers["Content-Disposition"] == f'attachment; filename="orders-{report["id"]}.csv"'
        (row,) = csv.DictReader(io.StringIO(file.text))
        assert (row["orderId"], row["status"], row["customerEmail"], row["total"]) == (
            str(order_id),
            "confirmed",
            "ada@example.com",
            "25.00",
        )
        job = customer.get(f"/jobs/{report['jobId']}").json()["data"]
        assert job["result"] == {"reportId": report["id"], "rows": 1, "bytes": len(file.content)}
        assert job["progress"] == {"done": 1, "total": 1, "message": "rows written"}

    def test_a_cell_that_a_spreadsheet_would_run_is_escaped(self, customer: Customer) -> None:
        customer.stocked()
        addresses = ["=1+1@example.com", "+1@example.com", "-1@example.com", "ada@example.com"]
        for address in addresses:
            order = {"customerEmail": address, "currency": "USD", "lines": [{"sku": "MUG", "quantity": 1}]}
            assert customer.post("/orders", order, Idempotency_Key=address).status_code == 202
        report_id, job_id = customer.reported()
        customer.shop.work(job_id)
        rows = list(csv.DictReader(io.StringIO(customer.get(f"/reports/{report_id}/download").text)))
        assert [row["customerEmail"] for row in rows] == [*(f"'{address}" for address in addresses[:3]), addresses[3]]

    def test_a_report_holds_its_own_tenants_orders_of_its_own_time(self, customer: Customer, other: Customer) -> None:
        for who in (customer, other):
            who.stocked()
            who.ordered()
        for since, until, rows in (("2026-01-01", "2126-01-01", 1), ("2025-01-01", "2025-02-01", 0)):
            report_id, job_id = customer.reported(f"{since}T00:00:00Z", f"{until}T00:00:00Z")
            customer.shop.work(job_id)
            assert customer.get(f"/reports/{report_id}").json()["data"]["rows"] == rows

    def test_a_file_that_is_no_longer_kept_is_410(self, customer: Customer) -> None:
        report_id, job_id = customer.reported()
        customer.shop.work(job_id)
        with customer.shop.engine.begin() as tx:
            tx.execute(text("UPDATE reports SET object_key = 'gone.csv' WHERE id = :id"), {"id": report_id})
        error_of(customer.get(f"/reports/{report_id}/download"), 410, "RESULT_EXPIRED")


class TestEndpoints:
    URLS = (
        "http://example.com/hook",
        "https://localhost/hook",
        "https://intranet/hook",
        "https://db.internal/hook",
        "https://127.0.0.1/hook",
        "https://10.0.0.8/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://[::ffff:127.0.0.1]/hook",
        "https://2130706433/hook",
        "https://0x7f.1/hook",
        "https://user:password@example.com/hook",
        "https://user@example.com/hook",
        "https://example.com:22/hook",
        "https://example.com/hook#fragment",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "//example.com/hook",
        "example.com",
        "https://",
        "https://[::1",
        " https://example.com/hook",
        "https://exa mple.com/hook",
    )

    def test_its_secret_is_shown_once_and_signs(self, customer: Customer) -> None:
        body = {"url": "https://example.com/hook", "eventTypes": ["order.confirmed", "order.confirmed", "*"]}
        response = customer.post("/webhook-endpoints", body)
        data = response.json()["data"]
        assert response.status_code == 201
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Location"] == f"/api/v1/webhook-endpoints/{data['id']}"
        assert (data["status"], sorted(data["eventTypes"])) == ("enabled", ["*", "order.confirmed"])
        assert data["secret"].startswith("whsec_")
        assert Webhook(data["secret"]).sign("msg_1", datetime.now(UTC), "{}").startswith("v1,")
        shown = {**data, "disabledReason": None}
        del shown["secret"]
        for path in ("/webhook-endpoints", f"/webhook-endpoints/{data['id']}"):
            again = customer.get(path)
            assert "secret" not in again.text
            assert data["secret"].removeprefix("whsec_") not in again.text
            found = again.json()["data"]
            assert shown in (found if isinstance(found, list) else [found])

    def test_its_secret_is_not_stored_in_the_clear(self, customer: Customer) -> None:
        body = {"url": "https://example.com/hook", "eventTypes": ["*"]}
        secret = customer.post("/webhook-endpoints", body).json()["data"]["secret"]
        sql = "SELECT secrets[1] FROM webhook_endpoints WHERE tenant_id = :tenant_id"
        stored = bytes(customer.shop.scalar(sql, tenant_id=customer.tenant_id))
        assert len(stored) > 32
        assert Webhook(secret)._whsecret not in stored

    @pytest.mark.parametrize("url", URLS)
    def test_an_address_that_is_not_plainly_somewhere_outside_is_refused(self, customer: Customer, url: str) -> None:
        before = customer.rows()
        response = customer.post("/webhook-endpoints", {"url": url, "eventTypes": ["*"]})
        (detail,) = error_of(response, 422, "VALIDATION_ERROR")["details"]
        assert (detail["field"], detail["code"]) == ("url", "UNSAFE_URL")
        assert customer.rows() == before

    def test_deleting_one_is_204_without_a_body_and_cancels_what_waits_for_it(self, customer: Customer) -> None:
        customer.stocked()
        endpoint_id, kept_id = customer.subscribed("order.confirmed"), customer.subscribed("order.confirmed")
        _, job_id = customer.ordered()
        customer.shop.work(job_id)

        def waiting(endpoint: UUID) -> list[str]:
            sql = text("SELECT state FROM jobs WHERE lane = :lane AND kind = 'webhook.deliver'")
            with customer.shop.engine.begin() as tx:
                return list(tx.execute(sql, {"lane": endpoint_lane(endpoint)}).scalars())

        assert waiting(endpoint_id) == waiting(kept_id) == ["queued"]
        response = customer.send("DELETE", f"/api/v1/webhook-endpoints/{endpoint_id}")
        assert (response.status_code, response.content) == (204, b"")
        assert (waiting(endpoint_id), waiting(kept_id)) == (["cancelled"], ["queued"])
        obligations = "SELECT count(*) FROM outbox WHERE lane = :lane"
        assert customer.shop.scalar(obligations, lane=endpoint_lane(endpoint_id)) == 0
        assert ids_of(customer.get("/webhook-endpoints")) == [str(kept_id)]
        error_of(customer.send("DELETE", f"/api/v1/webhook-endpoints/{endpoint_id}"), 404, "NOT_FOUND")

    def test_deleting_one_takes_as_long_with_any_backlog_and_what_is_left_goes_in_steps(
        self, customer: Customer
    ) -> None:
        customer.stocked()
        endpoint_id, kept_id = customer.subscribed(), customer.subscribed()
        backlog = LITTLE + 50
        _pile_up(customer, endpoint_id, backlog)
        path = f"/webhook-endpoints/{endpoint_id}"
        assert customer.send("DELETE", f"/api/v1{path}").status_code == 204
        # Then it is gone for its owner, and nothing is sent or added any more
        error_of(customer.get(path), 404, "NOT_FOUND")
        error_of(customer.send("PATCH", f"/api/v1{path}", json={"status": "enabled"}), 404, "NOT_FOUND")
        error_of(customer.send("DELETE", f"/api/v1{path}"), 404, "NOT_FOUND")
        assert ids_of(customer.get("/webhook-endpoints")) == [str(kept_id)]
        lane, scalar = endpoint_lane(endpoint_id), customer.shop.scalar
        assert scalar("SELECT state FROM lanes WHERE name = :lane", lane=lane) == "disabled"
        assert not scalar("SELECT cardinality(secrets) FROM webhook_endpoints WHERE id = :id", id=endpoint_id)
        customer.shop.work(customer.ordered()[1])
        jobs = "SELECT count(*) FROM jobs WHERE lane = :lane AND state = :state"
        assert (scalar(jobs, lane=lane, state="cancelled"), scalar(jobs, lane=lane, state="queued")) == (LITTLE, 50)
        # When retention comes by
        assert retain(customer.shop.engine, 30).endpoints_deleted == 1
        # Then nothing of it waits or is there, and of its neighbour everything
        assert scalar(jobs, lane=lane, state="cancelled") == backlog
        assert not scalar("SELECT count(*) FROM outbox WHERE lane = :lane", lane=lane)
        assert not scalar("SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = :id", id=endpoint_id)
        assert not scalar("SELECT count(*) FROM lanes WHERE name = :lane", lane=lane)
        assert not scalar("SELECT count(*) FROM webhook_endpoints WHERE id = :id", id=endpoint_id)
        assert scalar("SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = :id", id=kept_id) == 2
        assert retain(customer.shop.engine, 30).endpoints_deleted == 0

    def test_a_delivery_under_way_outlives_its_endpoint(self, customer: Customer) -> None:
        customer.stocked()
        endpoint_id = customer.subscribed("order.confirmed")
        _, job_id = customer.ordered()
        customer.shop.work(job_id)
        sql = "SELECT id FROM jobs WHERE lane = :lane"
        delivery = customer.shop.scalar(sql, lane=endpoint_lane(endpoint_id))
        with customer.shop.engine.begin() as tx:
            assert len(start_if_due(tx, [delivery], new_id())) == 1
        assert customer.send("DELETE", f"/api/v1/webhook-endpoints/{endpoint_id}").status_code == 204
        assert customer.get(f"/jobs/{delivery}").json()["data"]["state"] == "running"


def _pile_up(customer: Customer, endpoint_id: UUID, deliveries: int) -> None:
    """So many deliveries to the endpoint wait."""
    job = "SELECT id, :tenant, 'webhook.deliver', 'webhooks', :lane FROM made"
    sql = f"""
        WITH made AS (SELECT uuidv7() AS id FROM generate_series(1, :deliveries)),
             told AS (INSERT INTO webhook_deliveries (job_id, tenant_id, endpoint_id, event_id, endpoint_version)
                      SELECT id, :tenant, :endpoint, uuidv7(), 1 FROM made),
             jobs AS (INSERT INTO jobs (id, tenant_id, kind, queue, lane, args, max_attempts)
                      SELECT *, '{{}}', 12 FROM ({job}) AS job)
        INSERT INTO outbox (job_id, tenant_id, kind, queue, lane, due_at)
        SELECT *, now() FROM ({job}) AS due RETURNING 1
    """  # constants of ours
    values = {"tenant": customer.tenant_id, "endpoint": endpoint_id, "lane": endpoint_lane(endpoint_id)}
    customer.shop.scalar(sql, **values, deliveries=deliveries)
