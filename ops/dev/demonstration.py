"""The steps of `longshore demo`: what each does is done over HTTP or by the command line, and shown as typed by hand.

Runs any number of times on the same system, beside whatever else goes on there: its products are new each time, it
waits for its own jobs only, and what it changed is put back at the end.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from rich.progress import track

from domain.webhooks.signature_rules import message_id
from ops.dev.caller import Caller, CommandFailed, Refused, TimeIsUp, wait_for
from ops.dev.screen import Screen

API = "/api/v1"
CALLERS = 8
RETRY = {"maxAttempts": 3, "baseSeconds": 0.5, "capSeconds": 1}
#: A job every ten milliseconds, on the slowest machine.
PATIENCE_PER_ORDER_S = 0.1
#: What an attempt that runs while its endpoint is deleted may still take.
LAST_ATTEMPT_ENDS_WITHIN_S = 15.0
#: What an order is waited for; a webhook of somebody else's endpoint may be retried for days.
_AWAITED = ("inventory.", "email.")
_DELIVERY = "webhook.deliver"


class Demonstration:
    """`environ` is the dev.env of the running system."""

    def __init__(self, environ: Mapping[str, str], data: Path) -> None:
        self._environ, self._dev_env = environ, data / "dev.env"
        url = environ["LONGSHORE_URL"]
        self._caller = Caller(url, {"X-API-Key": environ["LONGSHORE_API_KEY"]}, patient=True)
        self._admin = Caller(url, {"X-API-Key": environ["LONGSHORE_ADMIN_KEY"]})
        self._receiver = Caller(environ["RECEIVER_CONTROL"], patient=True)
        self._screen = Screen()
        self._run = secrets.token_hex(3).upper()

    def run(self, orders: int) -> None:
        Caller(self._environ["LONGSHORE_URL"]).get("/readyz")
        self._screen.settings(self._dev_env)
        skus = self._create_products(orders)
        posted = self._post_orders(skus, orders)
        self._show_timeline(self._await_orders(posted))
        with self._failing_endpoint() as endpoint:
            delivery = self._let_a_delivery_die(skus[0], _lane(endpoint))
            self._replay(delivery, self._show_dead_letter(delivery["id"]))
        self._screen.end("nothing was lost, and the one that failed was replayed.")

    def _create_products(self, orders: int) -> list[str]:
        self._screen.step("Products with stock")
        names, stock = ("Crate", "Rope", "Hook"), 2 * orders + 2
        products = [
            {"sku": f"DEMO-{name.upper()}-{self._run}", "name": name, "price": 9.5, "stock": stock} for name in names
        ]
        for product in products:
            self._admin.send("POST", f"{API}/products", product)
        skus = [str(product["sku"]) for product in products]
        self._screen.say(f"{', '.join(skus)}: {stock} of each")
        self._screen.curl("POST", f"{API}/products", products[-1], key="LONGSHORE_ADMIN_KEY")
        return skus

    def _post_orders(self, skus: list[str], count: int) -> list[str]:
        self._screen.step(f"{count} orders, each answered 202 once it is durable")
        bodies = [self._order(number, skus[number % 3]) for number in range(count)]
        with ThreadPoolExecutor(CALLERS) as callers:
            posted = callers.map(self._post_order, bodies)
            ids = list(track(posted, "posting", total=count, console=self._screen.console))
        if repeated := self._caller.posts_repeated:
            self._screen.say(f"{repeated} {'post was' if repeated == 1 else 'posts were'} repeated with the same key")
        self._screen.curl("POST", f"{API}/orders", bodies[0], "-H", f"Idempotency-Key: {uuid4()}")
        return ids

    def _order(self, number: int, sku: str) -> dict[str, Any]:
        email = f"customer-{self._run.lower()}-{number}@example.com"
        return {"customerEmail": email, "currency": "USD", "lines": [{"sku": sku, "quantity": 1 + number % 2}]}

    def _post_order(self, body: dict[str, Any]) -> str:
        answer = self._caller.send("POST", f"{API}/orders", body, {"Idempotency-Key": str(uuid4())})
        order_id: str = answer["data"]["order"]["id"]
        return order_id

    def _await_orders(self, ids: list[str]) -> dict[str, Any]:
        """The last of them, with its jobs. Raises TimeIsUp."""
        self._screen.step("The jobs behind them: stock reserved, mail sent")
        patience_s = 60 + PATIENCE_PER_ORDER_S * len(ids)
        with ThreadPoolExecutor(CALLERS) as callers:
            done = callers.map(lambda order_id: self._await_order(order_id, patience_s), ids)
            details = list(track(done, "working", total=len(ids), console=self._screen.console))
        statuses = [detail["order"]["status"] for detail in details]
        self._screen.say(", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses))))
        self._screen.typed("curl -s $INBOX_URL/    # the mails")
        last: dict[str, Any] = details[-1]
        return last

    def _await_order(self, order_id: str, patience_s: float) -> Any:
        def when_done() -> Any:
            detail = self._caller.get(f"{API}/orders/{order_id}")["data"]
            jobs = [entry["job"] for entry in detail["timeline"] if entry["job"]["kind"].startswith(_AWAITED)]
            is_done = detail["order"]["status"] != "accepted" and all(job["done"] for job in jobs)
            return detail if is_done else None

        return wait_for(when_done, f"order {order_id}", patience_s)

    def _show_timeline(self, detail: dict[str, Any]) -> None:
        order = detail["order"]
        self._screen.step(f"One order from end to end: {order['id']}, {order['status']}")
        start = datetime.fromisoformat(order["createdAt"])
        for entry in detail["timeline"]:
            job = entry["job"]
            at = [_after(start, job[moment]) for moment in ("createdAt", "startedAt", "finishedAt")]
            self._screen.say(f"{job['kind']:<22} {job['state']:<10} made {at[0]}, started {at[1]}, done {at[2]}")
        self._screen.curl("GET", f"{API}/orders/{order['id']}")

    @contextmanager
    def _failing_endpoint(self) -> Iterator[dict[str, Any]]:
        """An endpoint at the receiver, which is told to answer 500. Both are put right at the end."""
        self._screen.step("A webhook endpoint that is down")
        before = self._receiver.get("/mode")["status"]
        body = {"url": self._environ["RECEIVER_URL"], "eventTypes": ["order.confirmed"], "retry": RETRY}
        endpoint = self._caller.send("POST", f"{API}/webhook-endpoints", body)["data"]
        self._screen.curl("POST", f"{API}/webhook-endpoints", body)
        try:
            self._receiver.send("PUT", "/secret", {"secret": endpoint["secret"]})
            self._set_mode(500)
            yield endpoint
        finally:
            self._receiver.send("PUT", "/mode", {"status": before})
            self._remove(endpoint)

    def _remove(self, endpoint: dict[str, Any]) -> None:
        """The endpoint is gone, and no dead letter of its deliveries stays open."""
        try:
            self._caller.send("DELETE", f"{API}/webhook-endpoints/{endpoint['id']}")
        except Refused as refused:
            if refused.status != 404:  # an earlier try, whose answer was lost, may have done it
                raise
        wait_for(lambda: self._are_done(_lane(endpoint)), "the last delivery", LAST_ATTEMPT_ENDS_WITHIN_S)
        dead = {job["id"] for job in self._deliveries(_lane(endpoint)) if job["state"] == "dead"}
        letters = self._answer("dlq", "list", "--kind", _DELIVERY, "--limit", "10000") if dead else []
        if ids := [letter["id"] for letter in letters if letter["jobId"] in dead]:
            self._output("dlq", "discard", *ids, "--yes", "--reason", "demo: its endpoint is deleted")

    def _are_done(self, lane: str) -> bool:
        return not any(job["finishedAt"] is None for job in self._deliveries(lane))

    def _deliveries(self, lane: str, *words: str) -> list[dict[str, Any]]:
        """The newest deliveries of this endpoint, whoever's order they tell of."""
        found = self._answer("jobs", "list", "--kind", _DELIVERY, "--limit", "1000", *words)
        return [job for job in found if job["lane"] == lane]

    def _let_a_delivery_die(self, sku: str, lane: str) -> dict[str, Any]:
        """Its job."""
        self._screen.step("An order whose webhook gives up after three attempts")
        order_id = self._post_order(self._order(0, sku))
        delivery: dict[str, Any]
        (delivery, *_) = wait_for(lambda: self._deliveries(lane, "--order", order_id), "the delivery")
        job = self._await_job(delivery["id"])
        self._screen.say(f"job {job['id']} is {job['state']} after {job['attempts']} attempts")
        if job["state"] != "dead":
            raise TimeIsUp(f"the delivery should be dead by now and is {job['state']}")
        return delivery

    def _show_dead_letter(self, job_id: str) -> str:
        self._screen.step("Its dead letter")
        self._longshore("dlq", "list", "--kind", _DELIVERY, "--since", "10m")
        found = self._answer("dlq", "list", "--kind", _DELIVERY)
        letter_id: str = next(letter["id"] for letter in found if letter["jobId"] == job_id)
        return letter_id

    def _replay(self, delivery: dict[str, Any], letter_id: str) -> None:
        self._screen.step("The endpoint is healed, the dead letter replayed: same job, same webhook-id")
        self._set_mode(204)
        self._longshore("dlq", "replay", letter_id, "--yes", "--reason", "demo: the endpoint is back")
        job = self._await_job(delivery["id"])
        self._screen.say(f"job {job['id']} has {job['state']} at attempt {job['attempts']}")
        sent = message_id(UUID(delivery["eventId"]))
        taken = (one for one in self._receiver.get("/deliveries") if one["webhookId"] == sent)
        came = next(one for one in taken if one["verified"] and one["status"] == 204)
        self._screen.say(f"the receiver took {came['webhookId']} ({came['type']}), signature verified")
        self._screen.typed("curl -s $RECEIVER_CONTROL/deliveries")

    def _await_job(self, job_id: str) -> Any:
        def when_done() -> Any:
            job = self._caller.get(f"{API}/jobs/{job_id}")["data"]
            return job if job["done"] else None

        return wait_for(when_done, f"job {job_id}")

    def _set_mode(self, status: int) -> None:
        self._receiver.send("PUT", "/mode", {"status": status})
        self._screen.typed(f"curl -X PUT $RECEIVER_CONTROL/mode -d '{{\"status\": {status}}}'")

    def _longshore(self, *words: str) -> None:
        """As an operator would type it."""
        self._screen.longshore(*words)
        self._screen.say(self._output(*words).rstrip())

    def _answer(self, *words: str) -> list[dict[str, Any]]:
        return msgspec.json.decode(self._output(*words, "--json"), type=list[dict[str, Any]])

    def _output(self, *words: str) -> str:
        command = [sys.executable, "-P", "-m", "ops.cli", *words]
        done = subprocess.run(command, env={**os.environ, **self._environ}, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            last_word = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise CommandFailed(f"longshore {' '.join(words)} ended with exit code {done.returncode}: {last_word}")
        return done.stdout


def _lane(endpoint: Mapping[str, Any]) -> str:
    """Where the jobs of this endpoint wait."""
    return f"endpoint:{endpoint['id']}"


def _after(start: datetime, moment: str | None) -> str:
    if moment is None:
        return "-"
    return f"+{(datetime.fromisoformat(moment) - start).total_seconds() * 1000:.0f} ms"
