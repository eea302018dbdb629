"""The shop of the API's tests: the application on a real database, and customers, each a tenant of its own."""

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import Response
from jsonschema import Draft202012Validator
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Engine, text

import workers.handlers  # noqa: F401  # registers them
from api.app import create_app
from api.envelope import CODES
from domain import aftermath
from domain.aftermath import settle
from domain.errors import LongshoreError
from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob, start_if_due
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of
from domain.jobs.kind import find_kind
from domain.jobs.retry_policy import Ending, Errored
from domain.reports.store import ReportStore
from domain.tenants.keys import create_key
from domain.tenants.permission_rules import USERS_READ, USERS_WRITE
from domain.tenants.plan_rules import UNLIMITED
from domain.tenants.tenants import ensure_tenant
from ops.settings import Settings
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import BundleContext, BundleJob, JobContext, Resources
from workers.holdings import Holdings
from workers.registry import HANDLERS, Mode

V1 = "/api/v1"
TABLES = (
    "orders",
    "order_lines",
    "jobs",
    "outbox",
    "products",
    "stock_ledger",
    "reports",
    "webhook_endpoints",
    "users",
)

PROBLEM: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "title", "status", "detail", "instance", "success", "error"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string", "minLength": 1},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "minLength": 1},
        "instance": {"type": "string", "pattern": "^urn:request:[A-Za-z0-9._-]{8,128}$"},
        "success": {"const": False},
        "error": {
            "type": "object",
            "additionalProperties": False,
            "required": ["code", "message", "requestId", "details"],
            "properties": {
                "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                "message": {"type": "string", "minLength": 1},
                "requestId": {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,128}$"},
                "details": {"type": "array", "items": {"$ref": "#/$defs/detail"}},
            },
        },
        "violated-policies": {"type": "array", "items": {"enum": ["burst", "anonymous", "login"]}, "minItems": 1},
    },
    "$defs": {
        "detail": {
            "type": "object",
            "additionalProperties": False,
            "required": ["field", "pointer", "in", "code", "message"],
            "properties": {
                "field": {"type": "string"},
                "pointer": {"type": "string", "pattern": "^#(/|$)"},
                "in": {"enum": ["body", "parameter"]},
                "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                "message": {"type": "string", "minLength": 1},
            },
        }
    },
}
_PROBLEM = Draft202012Validator(PROBLEM)
_LEAKS = ("Traceback", "psycopg", "sqlalchemy", "SELECT ", "INSERT ", "UPDATE ", "postgresql://", "redis://", ".py")


def error_of(response: Response, status: int, code: str) -> dict[str, Any]:
    """The `error` of an answer that is exactly what every error shall be."""
    assert response.status_code == status, response.text[:500]
    body: dict[str, Any] = response.json()
    _PROBLEM.validate(body)
    error: dict[str, Any] = body["error"]
    assert (error["code"], body["type"], body["status"]) == (code, CODES[code].type or f"/errors/{code}", status)
    assert body["detail"] == error["message"]
    assert body["instance"] == f"urn:request:{error['requestId']}"
    assert error["requestId"] == response.headers["X-Request-ID"] == response.headers["X-Correlation-ID"]
    assert [word for word in _LEAKS if word in response.text] == []
    return error


def fields_of(error: Mapping[str, Any]) -> list[str]:
    return [detail["field"] for detail in error["details"]]


class Customer:
    """A tenant with a key that may do everything, as it speaks to the API."""

    def __init__(self, shop: "Shop", name: str) -> None:
        self.shop = shop
        with shop.engine.begin() as tx:
            self.tenant_id = ensure_tenant(tx, name, UNLIMITED)
            self.key = create_key(tx, self.tenant_id, "full", ["api", "admin", USERS_READ, USERS_WRITE])
        self._numbers = itertools.count(1)

    def send(self, method: str, path: str, **options: Any) -> Response:
        headers = {"X-API-Key": self.key, **(options.pop("headers", None) or {})}
        return self.shop.client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Response:
        return self.send("GET", V1 + path, **options)

    def post(self, path: str, body: object = None, *, raw: bytes | None = None, **headers: Any) -> Response:
        content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        typed = {"Content-Type": "application/json"} if content is not None else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", V1 + path, content=content, headers={**typed, **named})

    def order(self, sku: str = "MUG", quantity: int = 1, key: str | None = None, **headers: Any) -> Response:
        body = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": sku, "quantity": quantity}]}
        return self.post("/orders", body, **{**headers, "Idempotency_Key": key or f"order-{next(self._numbers)}"})

    def ordered(self, sku: str = "MUG", quantity: int = 1) -> tuple[UUID, UUID]:
        """The ids of a new order and its job."""
        response = self.order(sku, quantity)
        assert response.status_code == 202, response.text
        data = response.json()["data"]
        return UUID(data["order"]["id"]), UUID(data["job"]["id"])

    def stocked(self, sku: str = "MUG", price: float = 12.5, stock: int = 10, **more: object) -> UUID:
        """The id of a new product."""
        response = self.post("/products", {"sku": sku, "name": sku.title(), "price": price, "stock": stock, **more})
        assert response.status_code == 201, response.text
        return UUID(response.json()["data"]["id"])

    def subscribed(self, *event_types: str) -> UUID:
        """The id of a new webhook endpoint."""
        body = {"url": "https://example.com/hook", "eventTypes": list(event_types) or ["*"]}
        return UUID(self.post("/webhook-endpoints", body).json()["data"]["id"])

    def employed(self, role: str = "viewer", **more: object) -> UUID:
        """The id of a new user."""
        body = {"email": f"{new_id()}@example.com", "password": "a password", "name": "Ada", "role": role, **more}
        response = self.post("/users", body)
        assert response.status_code == 201, response.text
        return UUID(response.json()["data"]["id"])

    def reported(self, since: str = "2026-01-01T00:00:00Z", until: str = "2126-01-01T00:00:00Z") -> tuple[UUID, UUID]:
        """The ids of a new report and its job."""
        response = self.post("/reports", {"type": "orders", "from": since, "to": until})
        assert response.status_code == 202, response.text
        data = response.json()["data"]
        return UUID(data["id"]), UUID(data["jobId"])

    def buried(self) -> UUID:
        """The id of a new dead letter."""
        job = self.shop.started(self.reported()[1])
        self.shop.end(job, Errored("PermanentFailure", "the disk is full", permanent=True))
        found: UUID = self.shop.scalar("SELECT id FROM dead_letters WHERE job_id = :id", id=job.id)
        return found

    def status(self, order_id: UUID) -> str:
        found: str = self.get(f"/orders/{order_id}").json()["data"]["order"]["status"]
        return found

    def rows(self) -> dict[str, int]:
        """How much is stored for this tenant, table by table."""
        counts = {}
        for table in TABLES:
            sql = f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id"
            counts[table] = self.shop.scalar(sql, tenant_id=self.tenant_id)
        return counts


class Shop:
    """The application, served in this process."""

    def __init__(self, client: TestClient[Litestar], engine: Engine, settings: Settings) -> None:
        self.client, self.engine, self.settings = client, engine, settings

    def customer(self) -> Customer:
        return Customer(self, f"tenant-{new_id()}")

    def scalar(self, sql: str, **values: object) -> Any:
        with self.engine.begin() as tx:
            return tx.execute(text(sql), values).scalar()

    def started(self, job_id: UUID) -> ClaimedJob:
        with self.engine.begin() as tx:
            (job,) = start_if_due(tx, [job_id], new_id(), lease_s=600)
        return job

    def end(self, job: ClaimedJob, ending: Ending) -> None:
        with self.engine.begin() as tx:
            assert settle(tx, [finish_of(job, ending, decided(job, ending))])

    def work(self, *job_ids: UUID) -> None:
        """These jobs are done, as a worker does them."""
        for job_id in job_ids:
            job = self.started(job_id)
            resources = self._resources()
            if HANDLERS[job.kind].mode is Mode.PLAIN:
                ctx = JobContext(job, resources, 60.0)
                HANDLERS[job.kind].run(_decode(job), ctx)
                ctx.close()
            else:
                HANDLERS[job.kind].run(BundleContext([BundleJob(job, _decode(job))], resources, time.monotonic() + 30))

    def _resources(self) -> Resources:
        return Resources(
            engine=self.engine,
            holdings=Holdings(),
            mailer=Mailer(self.settings.smtp_url, self.settings.mail_from),
            http=GuardedHttp(),
            reports=ReportStore(self.settings.reports_url),
            secret_key=self.settings.secret_bytes,
            ring=lambda: None,
        )


def _decode(job: ClaimedJob) -> Any:
    return find_kind(job.kind).decode(job.args)


def settings_for(database_url: str, redis_url: str, folder: Path, **more: Any) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        environment="production",
        secret_key=base64.b64encode(bytes(32)).decode(),
        reports_url=f"file://{folder / 'reports'}",
        rate_limit_max_requests=1_000_000,  # all tests come from one address
        **more,
    )


def opened(settings: Settings, schema: str | None = None) -> TestClient[Litestar]:
    """A client of a fresh application; errors come back as answers."""
    return TestClient(create_app(settings, schema), raise_server_exceptions=False)


def ids_of(response: Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["data"]]


def walk(customer: Customer, path: str, limit: int) -> Sequence[list[str]]:
    """The ids of every page of a list, first to last."""
    pages, cursor = [], ""
    while True:
        joint = "&" if "?" in path else "?"
        response = customer.get(f"{path}{joint}limit={limit}{cursor}")
        pages.append(ids_of(response))
        found = response.json()["pagination"]
        assert found["hasMore"] == (found["nextCursor"] is not None)
        if not found["hasMore"]:
            return pages
        cursor = f"&cursor={found['nextCursor']}"


@contextmanager
def worked(shop: Shop) -> Iterator[None]:
    """Jobs end soon, so that there are confirmed orders, written reports and streams with an end.

    Nothing leaves the machine: mail and webhooks are cancelled.
    """
    stop = threading.Event()
    hands = threading.Thread(target=lambda: _work(shop, stop))
    hands.start()
    try:
        yield
    finally:
        stop.set()
        hands.join()


_QUEUED = text("SELECT id, tenant_id, kind FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 50")


def _work(shop: Shop, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        with shop.engine.begin() as tx:
            queued = tx.execute(_QUEUED).all()
        for job in queued:
            with suppress(LongshoreError, ValueError):  # its caller was quicker
                if job.kind.startswith(("inventory.", "report.")):
                    shop.work(job.id)
                else:
                    with shop.engine.begin() as tx:
                        aftermath.cancel(tx, job.tenant_id, job.id)
