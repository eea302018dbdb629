"""The steps of `longshore demo`: what each does is done over HTTP or by the command line, and shown as typed by hand.

Runs any number of times on the same system: its products are new each time, its webhook endpoint goes at the end.
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
from uuid import uuid4

import msgspec
from rich.console import Console
from rich.progress import track

from ops.dev.caller import Caller, CommandFailed, TimeIsUp, wait_for

API = "/api/v1"
CALLERS = 8
RETRY = {"maxAttempts": 3, "baseSeconds": 0.5, "capSeconds": 1}
#: A job every ten milliseconds, on the slowest machine.
PATIENCE_PER_ORDER_S = 0.1


class Demonstration:
    """`environ` is the dev.env of the running system."""

    def __init__(self, environ: Mapping[str, str], data: Path) -> None:
        self._environ, self._dev_env = environ, data / "dev.env"
        url = environ["LONGSHORE_URL"]
        self._caller = Caller(url, {"X-API-Key": environ["LONGSHORE_API_KEY"]})
        self._admin = Caller(url, {"X-API-Key": environ["LONGSHORE_ADMIN_KEY"]})
        self._receiver = Caller(environ["RECEIVER_CONTROL"])
        self._console = Console(highlight=False, soft_wrap=True)
        self._run = secrets.token_hex(3).upper()

    def run(self, orders: int) -> None:
        self._caller.get("/readyz")
        self._type(f"set -a; . {self._dev_env}; set +a    # for the lines below")
        skus = self._create_products(orders)
        posted = self._post_orders(skus, orders)
        self._show_timeline(self._await_orders(posted))
        with self._failing_endpoint():
            job_id = self._let_a_delivery_die(skus[0])
            letter_id = self._show_dead_letter(job_id)
            self._replay(job_id, letter_id)
        self._console.print("\n[bold green]Done:[/] nothing was lost, and the one that failed was replayed.")

    def _create_products(self, orders: int) -> list[str]:
        self._step("Products with stock")
        skus = [f"DEMO-{name}-{self._run}" for name in ("CRATE", "ROPE", "HOOK")]
        products = [{"sku": sku, "name": sku.title(), "price": 9.5, "stock": 2 * orders + 2} for sku in skus]
        for product in products:
            self._admin.send("POST", f"{API}/products", product)
        self._say(f"{', '.join(skus)}: {2 * orders + 2} of each")
        self._curl("POST", f"{API}/products", products[-1], key="LONGSHORE_ADMIN_KEY")
        return skus

    def _post_orders(self, skus: list[str], count: int) -> list[str]:
        self._step(f"{count} orders, each answered 202 once it is durable")
        bodies = [self._order(number, skus[number % 3]) for number in range(count)]
        with ThreadPoolExecutor(CALLERS) as callers:
            ids = list(track(callers.map(self._post_order, bodies), "posting", total=count, console=self._console))
        self._curl("POST", f"{API}/orders", bodies[0], "-H", f"Idempotency-Key: {uuid4()}")
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
        self._step("Every job behind them: stock reserved, mail sent")
        patience_s = 60 + PATIENCE_PER_ORDER_S * len(ids)
        with ThreadPoolExecutor(CALLERS) as callers:
            done = callers.map(lambda order_id: self._await_order(order_id, patience_s), ids)
            details = list(track(done, "working", total=len(ids), console=self._console))
        statuses = [detail["order"]["status"] for detail in details]
        self._say(", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses))))
        self._type("curl -s $INBOX_URL/    # the mails")
        last: dict[str, Any] = details[-1]
        return last

    def _await_order(self, order_id: str, patience_s: float) -> Any:
        def when_done() -> Any:
            detail = self._caller.get(f"{API}/orders/{order_id}")["data"]
            is_done = detail["order"]["status"] != "accepted" and all(one["job"]["done"] for one in detail["timeline"])
            return detail if is_done else None

        return wait_for(when_done, f"order {order_id}", patience_s)

    def _show_timeline(self, detail: dict[str, Any]) -> None:
        order = detail["order"]
        self._step(f"One order from end to end: {order['id']}, {order['status']}")
        start = datetime.fromisoformat(order["createdAt"])
        for entry in detail["timeline"]:
            job = entry["job"]
            at = [_after(start, job[moment]) for moment in ("createdAt", "startedAt", "finishedAt")]
            self._say(f"{job['kind']:<22} {job['state']:<10} made {at[0]}, started {at[1]}, done {at[2]}")
        self._curl("GET", f"{API}/orders/{order['id']}")

    @contextmanager
    def _failing_endpoint(self) -> Iterator[None]:
        """An endpoint at the receiver, which is told to answer 500. Both are put right at the end."""
        self._step("A webhook endpoint that is down")
        body = {"url": self._environ["RECEIVER_URL"], "eventTypes": ["order.confirmed"], "retry": RETRY}
        endpoint = self._caller.send("POST", f"{API}/webhook-endpoints", body)["data"]
        self._curl("POST", f"{API}/webhook-endpoints", body)
        try:
            self._receiver.send("PUT", "/secret", {"secret": endpoint["secret"]})
            self._set_mode(500)
            yield
        finally:
            self._receiver.send("PUT", "/mode", {"status": 204})
            self._caller.send("DELETE", f"{API}/webhook-endpoints/{endpoint['id']}")

    def _let_a_delivery_die(self, sku: str) -> str:
        """The id of its job."""
        self._step("An order whose webhook gives up after three attempts")
        order_id = self._post_order(self._order(0, sku))
        detail = self._await_order(order_id, 60)
        job = next(entry["job"] for entry in detail["timeline"] if entry["job"]["kind"] == "webhook.deliver")
        self._say(f"job {job['id']} is {job['state']} after {job['attempts']} attempts")
        if job["state"] != "dead":
            raise TimeIsUp(f"the delivery should be dead by now and is {job['state']}")
        job_id: str = job["id"]
        return job_id

    def _show_dead_letter(self, job_id: str) -> str:
        self._step("Its dead letter")
        self._longshore("dlq", "list", "--kind", "webhook.deliver", "--since", "10m")
        found = msgspec.json.decode(self._output("dlq", "list", "--kind", "webhook.deliver", "--json"))
        letter_id: str = next(letter["id"] for letter in found if letter["jobId"] == job_id)
        return letter_id

    def _replay(self, job_id: str, letter_id: str) -> None:
        self._step("The endpoint is healed, the dead letter replayed: same job, same webhook-id")
        self._set_mode(204)
        self._longshore("dlq", "replay", letter_id, "--yes", "--reason", "demo: the endpoint is back")
        job = wait_for(lambda: self._succeeded(job_id), f"job {job_id}")
        self._say(f"job {job_id} has {job['state']} at attempt {job['attempts']}")
        delivery = next(one for one in self._receiver.get("/deliveries") if one["verified"] and one["status"] == 204)
        self._say(f"the receiver took {delivery['webhookId']} ({delivery['type']}), signature verified")
        self._type("curl -s $RECEIVER_CONTROL/deliveries")

    def _succeeded(self, job_id: str) -> Any:
        job = self._caller.get(f"{API}/jobs/{job_id}")["data"]
        return job if job["state"] == "succeeded" else None

    def _set_mode(self, status: int) -> None:
        self._receiver.send("PUT", "/mode", {"status": status})
        self._type(f"curl -X PUT $RECEIVER_CONTROL/mode -d '{{\"status\": {status}}}'")

    def _longshore(self, *words: str) -> None:
        """As an operator would type it."""
        self._type(" ".join(["longshore", *(f'"{word}"' if " " in word else word for word in words)]))
        self._say(self._output(*words).rstrip())

    def _output(self, *words: str) -> str:
        command = [sys.executable, "-P", "-m", "ops.cli", *words]
        done = subprocess.run(command, env={**os.environ, **self._environ}, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            last_word = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise CommandFailed(f"longshore {' '.join(words)} ended with exit code {done.returncode}: {last_word}")
        return done.stdout

    def _curl(self, method: str, path: str, body: object = None, *more: str, key: str = "LONGSHORE_API_KEY") -> None:
        words = ["curl"] if method == "GET" else ["curl", "-X", method]
        words += [f"$LONGSHORE_URL{path}", "-H", f'"X-API-Key: ${key}"']
        words += [f'"{word}"' if " " in word else word for word in more]
        if body is not None:
            words += ["-H", '"Content-Type: application/json"', "-d", f"'{msgspec.json.encode(body).decode()}'"]
        self._type(" ".join(words))

    def _step(self, title: str) -> None:
        self._console.print(f"\n[bold cyan]{title}[/]")

    def _say(self, text: str) -> None:
        self._console.print("\n".join(f"  {line}" for line in text.splitlines()), markup=False)

    def _type(self, line: str) -> None:
        self._console.print(f"  $ {line}", style="dim", markup=False)


def _after(start: datetime, moment: str | None) -> str:
    if moment is None:
        return "-"
    return f"+{(datetime.fromisoformat(moment) - start).total_seconds() * 1000:.0f} ms"
