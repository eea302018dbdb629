"""What callers do beside ordering: reports, endpoints that come and go, stock by hand, jobs polled, lists read."""

import csv
import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ops.chaos.clients import Client
from ops.chaos.history import Adjusted, Asked, Endpoint, History, Tenant
from ops.chaos.wires import HOST

_PERIOD = timedelta(seconds=6)
_MOST_ENDPOINTS = 3
_PAGES = 3

Errand = Callable[[Client, random.Random], None]


class Errands:
    """One for all callers. `all` of them with their weights, beside those of the orders."""

    def __init__(self, tenants: Sequence[Tenant], history: History, webhook_port: int) -> None:
        self._tenants, self._history, self._webhook_port = tenants, history, webhook_port
        self.all: list[tuple[Errand, float]] = [
            (self._ask_for_a_report, 0.004),
            (self._download_a_report, 0.008),
            (self._add_an_endpoint, 0.008),
            (self._delete_an_endpoint, 0.004),
            (self._adjust_stock, 0.01),
            (self._poll, 0.03),
            (self._page_through, 0.005),
        ]

    def _ask_for_a_report(self, client: Client, dice: random.Random) -> None:
        tenant, until = dice.choice(self._tenants), datetime.now(UTC)
        since, asked_at = until - _PERIOD, time.monotonic()
        wanted = {"type": "orders", "from": since.isoformat(), "to": until.isoformat()}
        answer = client.once("/reports", tenant.api_key, json.dumps(wanted).encode())
        self._history.did("report", answer.done)
        if answer.status == http.client.ACCEPTED:
            report = json.loads(answer.body)["data"]
            self._history.owners.update(dict.fromkeys((report["id"], report["jobId"]), tenant))
            self._history.reports.append(Asked(tenant, report["id"], report["jobId"], since, until, asked_at))

    def _download_a_report(self, client: Client, dice: random.Random) -> None:
        """Once its job has succeeded the file is there."""
        if waiting := [asked for asked in self._history.reports[-20:] if asked.order_ids is None]:
            download(client, dice.choice(waiting), self._history)

    def _add_an_endpoint(self, client: Client, dice: random.Random) -> None:
        if len(self._standing()) < _MOST_ENDPOINTS:
            types = dice.choice([["*"], ["order.confirmed"], ["order.cancelled", "report.completed"]])
            made = subscribe(client, dice.choice(self._tenants), f"extra-{uuid4().hex}", self._webhook_port, types)
            self._history.endpoints.append(made)
            self._history.did("endpoint", "ok" if made.id else "unknown")

    def _delete_an_endpoint(self, client: Client, dice: random.Random) -> None:
        if standing := self._standing():
            endpoint = dice.choice(standing)
            endpoint.ending = min(endpoint.ending, time.time())
            answer = client.ask("DELETE", f"/webhook-endpoints/{endpoint.id}", endpoint.tenant.api_key)
            self._history.did("endpoint deleted", answer.done)
            if answer.status in {http.client.NO_CONTENT, http.client.NOT_FOUND}:
                endpoint.gone = min(endpoint.gone, time.time())

    def _standing(self) -> list[Endpoint]:
        now = time.time()
        return [one for one in self._history.endpoints if one.id and now < one.gone and "extra" in one.path]

    def _adjust_stock(self, client: Client, dice: random.Random) -> None:
        """Mostly of what runs out; now and then units are taken away, or asked for that nobody has."""
        tenant = dice.choice(self._tenants)
        sku = dice.choice(tenant.scarce if dice.random() < 0.7 else tenant.plenty)
        delta = dice.choice([dice.randint(5, 30), dice.randint(5, 30), -dice.randint(1, 5), -(10**8)])
        path = f"/products/{tenant.product_ids[sku]}/stock-adjustments"
        answer = client.ask("POST", path, tenant.admin_key, json.dumps({"delta": delta}).encode())
        self._history.did("stock adjusted", answer.done)
        self._history.adjustments.append(Adjusted(tenant.id, sku, delta, answer.done))

    def _poll(self, client: Client, dice: random.Random) -> None:
        """A job that was seen to succeed has succeeded for good."""
        if posted := self._history.recent(dice):
            was_done = posted.job_id in self._history.succeeded
            answer = client.ask("GET", f"/jobs/{posted.job_id}", posted.tenant.api_key)
            self._history.did("poll", answer.done)
            if answer.status == http.client.OK:
                state = json.loads(answer.body)["data"]["state"]
                if state == "succeeded":
                    self._history.succeeded.add(posted.job_id)
                elif was_done:
                    self._history.is_strange(f"job {posted.job_id} had succeeded, and is {state}")
            elif answer.status == http.client.NOT_FOUND:
                self._history.is_strange(f"job {posted.job_id} of an accepted order was not found")

    def _page_through(self, client: Client, dice: random.Random) -> None:
        """Newest first, nothing twice, and nobody else's."""
        tenant, what = dice.choice(self._tenants), dice.choice(["orders", "jobs", "reports"])
        seen: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(_PAGES):
            answer = client.ask("GET", f"/{what}?limit=20{cursor}", tenant.api_key)
            self._history.did("page", answer.done)
            if answer.status != http.client.OK:
                break
            page = json.loads(answer.body)
            seen += page["data"]
            if not page["pagination"]["hasMore"]:
                break
            cursor = f"&cursor={page['pagination']['nextCursor']}"
        self._judge_pages(tenant, what, seen)

    def _judge_pages(self, tenant: Tenant, what: str, seen: Sequence[dict[str, Any]]) -> None:
        ids: list[Any] = [one["id"] for one in seen]
        for one in seen:
            if not self._is_of(tenant, one):
                self._history.is_strange(f"{tenant.name} found {one['id']} among its {what}, which is not its own")
        if len(set(ids)) < len(ids):
            self._history.is_strange(f"a page of {what} repeats what the one before had")
        places = [datetime.fromisoformat(one["createdAt"]) for one in seen] if what == "orders" else ids
        if places != sorted(places, reverse=True):
            self._history.is_strange(f"pages of {what} are not newest first")

    def _is_of(self, tenant: Tenant, one: dict[str, Any]) -> bool:
        """As far as anybody was told: an order says it by itself."""
        own = f"@{tenant.name}.example.com"
        return self._history.owners.get(one["id"], tenant) is tenant and str(one.get("customerEmail", own)).endswith(
            own
        )


def subscribe(client: Client, tenant: Tenant, path: str, port: int, types: Sequence[str] = ("*",)) -> Endpoint:
    """An endpoint that hears of these events; without an id when nobody knows whether it stands."""
    wanted = {"url": f"http://{HOST}:{port}/{path}", "eventTypes": list(types)}
    answer = client.once("/webhook-endpoints", tenant.api_key, json.dumps(wanted).encode())
    if answer.status != http.client.CREATED:
        return Endpoint(tenant, f"/{path}", types=types)
    made = json.loads(answer.body)["data"]
    return Endpoint(tenant, f"/{path}", made["id"], made["secret"], since=time.time(), types=types)


def download(client: Client, asked: Asked, history: History) -> str:
    """The file of a report is kept if its job has succeeded. Answers the state of the job, "" when nobody says."""
    key = asked.tenant.api_key
    status, said = client.call("GET", f"/reports/{asked.report_id}", key)
    if status != http.client.OK:
        return ""
    report = json.loads(said)["data"]
    if report["state"] != "succeeded":
        return str(report["state"])
    status, said = client.call("GET", f"/reports/{asked.report_id}/download", key)
    if status == http.client.OK:
        asked.said_rows, asked.said_bytes, asked.size = report["rows"], report["bytes"], len(said)
        rows = list(csv.reader(said.decode().splitlines()))[1:]
        asked.order_ids, asked.cells = [row[0] for row in rows], [row[1:] for row in rows]
    elif 400 <= status < 500:
        history.is_strange(f"report {asked.report_id} has succeeded, and its file was answered {status}")
    return "succeeded"
