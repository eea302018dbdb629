"""Seen from outside: request ids, the log line of a request, the stack of a failure, and metrics without raw ids."""

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import EventDict

from domain.ids import new_id
from tests.integration.api.shop import Customer, Shop, error_of

ROOT = Path(__file__).parents[3]

#: Somebody whose session was begun this moment.
_A_SESSION = """
    WITH person AS (
        INSERT INTO users (id, tenant_id, email, name, password_hash, role)
        VALUES (:user_id, :tenant_id, 'ada@example.com', 'Ada', '-', 'viewer') RETURNING tenant_id, id)
    INSERT INTO refresh_tokens (token_hash, family, tenant_id, user_id, expires_at)
    SELECT '\\x00', CAST(:id AS uuid), tenant_id, id, now() + interval '1 day' FROM person RETURNING 1
"""


class TestRequestId:
    @pytest.mark.parametrize("given", ["abc-12345", "A.b_c-7890", "x" * 128, "01a1fc33-5efc-7084-a313-92be393c2278"])
    def test_a_well_formed_one_comes_back_under_both_names(self, customer: Customer, given: str) -> None:
        for name in ("X-Request-ID", "X-Correlation-ID", "x-request-id"):
            response = customer.get("/orders", headers={name: given})
            assert response.headers["X-Request-ID"] == response.headers["X-Correlation-ID"] == given

    def test_the_request_id_wins_over_the_correlation_id_if_it_is_well_formed(self, customer: Customer) -> None:
        both = {"X-Request-ID": "request-1", "X-Correlation-ID": "correlation-1"}
        assert customer.get("/orders", headers=both).headers["X-Request-ID"] == "request-1"
        bad = {**both, "X-Request-ID": "short"}
        assert customer.get("/orders", headers=bad).headers["X-Request-ID"] == "correlation-1"

    @pytest.mark.parametrize(
        "given", ["", "short", "x" * 129, "has space in it", "semi;colon;", "quo\"te'd-id", "<b>bold</b>"]
    )
    def test_any_other_is_replaced_by_a_fresh_one(self, customer: Customer, given: str) -> None:
        first, second = (customer.get("/orders", headers={"X-Request-ID": given}) for _ in range(2))
        assert UUID(first.headers["X-Request-ID"]).version == 7
        assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]

    def test_it_is_on_every_answer_whatever_became_of_the_request(
        self, customer: Customer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.routes.orders.list_orders", lambda *_, **__: 1 / 0)
        named = {"X-Request-ID": "trace-me-please"}
        for method, path, status in (
            ("GET", "/nope", 404),
            ("DELETE", "/api/v1/orders", 405),
            ("GET", "/api/v1/orders", 500),
            ("GET", "/livez", 200),
            ("GET", "/metrics", 200),
            ("GET", "/api-docs", 200),
        ):
            response = customer.send(method, path, headers=named)
            assert (response.status_code, response.headers.get_list("X-Request-ID")) == (status, ["trace-me-please"])

    def test_it_travels_with_the_job(self, customer: Customer) -> None:
        customer.stocked()
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        job_id = customer.order(X_Request_ID="order-trace-1", traceparent=parent).json()["data"]["job"]["id"]
        sql = "SELECT trace_context FROM jobs WHERE id = :id"
        assert customer.shop.scalar(sql, id=job_id) == {"requestId": "order-trace-1", "traceparent": parent}
        customer.shop.work(UUID(job_id))
        mail = "SELECT trace_context FROM jobs WHERE kind = 'email.order_confirmed' AND tenant_id = :id"
        assert customer.shop.scalar(mail, id=customer.tenant_id)["requestId"] == "order-trace-1"
        body = {"type": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
        report_job = customer.post("/reports", body, X_Correlation_ID="report-trace-1").json()["data"]["jobId"]
        assert customer.shop.scalar(sql, id=report_job) == {"requestId": "report-trace-1"}


class TestLog:
    def test_a_request_is_one_line_with_its_facts_and_none_of_its_secrets(
        self, customer: Customer, logs: list[EventDict]
    ) -> None:
        customer.stocked()
        logs.clear()
        order_id = customer.ordered()[0]
        customer.get(f"/orders/{order_id}", headers={"X-Request-ID": "log-me-please", "User-Agent": "curl/8"})
        posted, read = (entry for entry in logs if entry["event"] == "http_request")
        assert read.pop("duration") > 0
        assert read == {
            "event": "http_request",
            "log_level": "info",
            "requestId": "log-me-please",
            "correlationId": "log-me-please",
            "method": "GET",
            "url": f"/api/v1/orders/{order_id}",
            "route": "/api/v1/orders/{order_id}",
            "statusCode": 200,
            "ip": "testclient",
            "userAgent": "curl/8",
            "tenantId": str(customer.tenant_id),
        }
        assert (posted["method"], posted["statusCode"]) == ("POST", 202)
        assert customer.key not in repr(logs)
        assert "ada@example.com" not in repr(logs)

    def test_probes_are_not_logged(self, shop: Shop, logs: list[EventDict]) -> None:
        for path in ("/livez", "/readyz", "/health", "/health/ready", "/ready", "/metrics"):
            shop.client.get(path)
        assert logs == []

    @pytest.mark.parametrize("log_format", ["json", "console"])
    def test_a_failure_is_logged_with_its_stack_under_its_request_id_and_without_secrets(
        self, shop: Shop, log_format: str
    ) -> None:
        key = shop.customer().key
        done = subprocess.run(
            [sys.executable, "-c", FAILING, shop.settings.database_url, log_format, key],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        log = done.stdout
        assert "Traceback" in log
        assert "in _insert" in log
        password = re.findall(r":([^:@]+)@", shop.settings.database_url)[0]
        for secret in (key, password, "ada@example.com"):
            assert secret not in log + done.stderr
        if log_format == "json":
            lines = [json.loads(line) for line in log.splitlines()]
            (failure,) = (line for line in lines if line["event"] == "request.failed")
            assert (failure["level"], failure["request_id"], failure["code"]) == (
                "error",
                "fail-me-please",
                "INTERNAL_ERROR",
            )
            assert (failure["method"], failure["path"]) == ("GET", "/insert")
            assert "in _insert" in failure["exception"]
            request = next(line for line in lines if line["event"] == "http_request")
            assert (request["requestId"], request["statusCode"]) == ("fail-me-please", 500)
            assert {line["service"] for line in lines} == {"longshore-api"}
        else:
            assert "fail-me-please" in log

    def test_sentry_is_told_of_a_failure_once_and_of_a_refusal_never(self, shop: Shop) -> None:
        with sentry() as (dsn, told):
            subprocess.run(
                [sys.executable, "-c", FAILING, shop.settings.database_url, "json", shop.customer().key, dsn],
                cwd=ROOT,
                capture_output=True,
                timeout=60,
                check=True,
            )
        (failure,) = told
        (raised,) = [one for one in failure["exception"]["values"] if one["type"] == "CheckViolation"]
        assert "_insert" in [frame["function"] for frame in failure["exception"]["values"][-1]["stacktrace"]["frames"]]
        assert "DETAIL:  ***" in raised["value"]
        assert failure["contexts"]["event"]["request_id"] == "fail-me-please"
        assert failure["tags"]["service"] == "longshore-api"
        assert "ada@example.com" not in json.dumps(told)


@contextmanager
def sentry() -> Iterator[tuple[str, list[Any]]]:
    """A DSN, and the events that were sent to it."""
    told: list[Any] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            envelope = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            told.append(json.loads(envelope.splitlines()[2]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://key@127.0.0.1:{server.server_port}/1", told
        finally:
            server.shutdown()
            thread.join()


#: A process with the logging that is served, and a route that fails in SQL over a row with a customer's address.
FAILING = """
import base64
import sys

from litestar import get
from litestar.di import NamedDependency
from litestar.testing import TestClient
from sqlalchemy import Engine, text

from api.app import create_app
from ops.settings import Settings
from ops.telemetry import configure_logging

_, url, log_format, key, *dsn = sys.argv
told = {"sentry_dsn": dsn[0]} if dsn else {}
configure_logging(level="info", log_format=log_format, process="api", environment="test", version="0", **told)

@get("/insert", sync_to_thread=True)
def _insert(engine: NamedDependency[Engine]) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE nobody (email text CHECK (email = '')) ON COMMIT DROP"))
        connection.execute(text("INSERT INTO nobody VALUES (:email)"), {"email": "ada@example.com"})

secret_key = base64.b64encode(bytes(32)).decode()
settings = Settings(database_url=url, redis_url="redis://127.0.0.1:1/0", secret_key=secret_key)
app = create_app(settings)
app.register(_insert)
with TestClient(app, raise_server_exceptions=False) as client:
    headers = {"X-Request-ID": "fail-me-please", "X-API-Key": key}
    assert client.get("/insert", headers=headers).status_code == 500
    assert client.get("/nowhere", headers=headers).status_code == 404
"""


class TestMetrics:
    def test_requests_are_counted_by_the_template_of_their_route(self, customer: Customer) -> None:
        labels = {"method": "GET", "route": "/api/v1/orders/{order_id}", "status": "404"}
        before = self._value(customer, "http_requests_total", labels)
        timed = self._value(customer, "http_request_duration_seconds_count", {**labels, "status": ""})
        for _ in range(3):
            error_of(customer.get(f"/orders/{uuid4()}"), 404, "NOT_FOUND")
        assert self._value(customer, "http_requests_total", labels) - before == 3
        again = self._value(customer, "http_request_duration_seconds_count", {**labels, "status": ""})
        assert again - timed == 3

    def test_no_label_holds_what_a_caller_made_up(self, customer: Customer) -> None:
        made_up = str(new_id())
        customer.get(f"/orders/{made_up}")
        customer.send("GET", f"/nope/{made_up}")
        customer.send("GET", f"/errors/{made_up}")
        customer.send("GET", f"/api-docs/{made_up}")
        customer.send("DELETE", f"/api/v1/orders/{made_up}")
        error_of(customer.send("BREW", "/api/v1/orders"), 405, "METHOD_NOT_ALLOWED")
        text = customer.shop.client.get("/metrics").text
        assert made_up not in text
        assert "BREW" not in text
        assert self._value(customer, "http_requests_total", {"method": "_OTHER", "route": "unmatched", "status": "405"})
        routes = {
            sample.labels["route"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "route" in sample.labels
        }
        assert "unmatched" in routes
        assert [route for route in routes if re.search(r"[0-9a-f]{8}-", route)] == []

    def test_the_depth_of_every_queue_is_told(self, customer: Customer) -> None:
        def due() -> float:
            customer.shop.client.app.dependencies["gauges"].dependency()._read_at.clear()
            return self._value(customer, "longshore_queue_depth", {"queue": "inventory", "state": "due"})

        customer.stocked()
        before = due()
        customer.ordered()
        assert due() - before == 1
        text = customer.shop.client.get("/metrics").text
        queues = set(re.findall(r'longshore_queue_depth{queue="(\w+)",state="due"}', text))
        assert {"inventory", "email", "webhooks", "reports"} <= queues
        assert "longshore_outbox_oldest_seconds" in text

    def test_a_queue_that_is_gone_does_not_stay_as_it_was(self, customer: Customer) -> None:
        def told() -> bool:
            customer.shop.client.app.dependencies["gauges"].dependency()._read_at.clear()
            return 'queue="retired"' in customer.shop.client.get("/metrics").text

        customer.shop.scalar(
            "INSERT INTO outbox (job_id, queue, kind, tenant_id, due_at)"
            " VALUES (uuidv7(), 'retired', 'old.kind', :id, clock_timestamp()) RETURNING 1",
            id=customer.tenant_id,
        )
        assert told()
        customer.shop.scalar("DELETE FROM outbox WHERE queue = 'retired' RETURNING 1")
        assert not told()

    def test_the_lanes_that_are_parked_are_told(self, customer: Customer) -> None:
        def lanes(state: str) -> float:
            customer.shop.client.app.dependencies["gauges"].dependency()._read_at.clear()
            return self._value(customer, "longshore_lanes", {"queue": "webhooks", "state": state})

        before = lanes("healthy"), lanes("parked")
        for _ in range(2):
            customer.subscribed("order.cancelled")
        assert (lanes("healthy"), lanes("parked")) == (before[0] + 2, before[1])
        customer.shop.scalar(
            "UPDATE lanes SET state = 'parked', parked_until = now() + interval '1 minute'"
            " WHERE name = (SELECT 'endpoint:' || max(id::text) FROM webhook_endpoints) RETURNING 1"
        )
        assert (lanes("healthy"), lanes("parked")) == (before[0] + 1, before[1] + 1)

    def test_the_figures_of_business_have_the_names_that_dashboards_look_for(self, customer: Customer) -> None:
        tenant = {"tenant_id": str(customer.tenant_id)}
        product, units = f"Mug {new_id()}", 3
        customer.stocked("MUG", stock=10, name="Other")
        customer.stocked("CUP", stock=units, name=product)
        _, job_id = customer.ordered("CUP", 1)
        customer.shop.work(job_id)
        customer.shop.scalar(_A_SESSION, tenant_id=customer.tenant_id, user_id=new_id(), id=new_id())
        customer.shop.client.app.dependencies["gauges"].dependency()._read_at.clear()
        assert self._value(customer, "orders_created_total", {**tenant, "status": "accepted"}) == 1
        decided = {**tenant, "payment_method": "none"}
        assert self._value(customer, "order_processing_duration_seconds_count", decided) == 1
        assert self._value(customer, "product_stock_quantity", {"product_name": product}) == units - 1
        assert self._value(customer, "active_users_current", tenant) == 1
        assert self._value(customer, "database_connections_active", {}) > 0

    def test_accepted_orders_and_keys_are_counted(self, customer: Customer) -> None:
        customer.stocked()
        names = ("longshore_orders_accepted_total", "longshore_idempotency_total")
        before = [self._value(customer, name, {"outcome": "replayed"} if "idem" in name else {}) for name in names]
        for _ in range(2):
            customer.order(key="k")
        after = [self._value(customer, name, {"outcome": "replayed"} if "idem" in name else {}) for name in names]
        assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]

    @staticmethod
    def _value(customer: Customer, name: str, labels: dict[str, str]) -> float:
        wanted = {label: value for label, value in labels.items() if value}
        response = customer.shop.client.get("/metrics")
        assert response.status_code == 200
        return sum(
            sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
            if sample.name == name and wanted.items() <= sample.labels.items()
        )
