"""The load: callers who behave as the documentation tells them to, and note all they did.

A post whose outcome is unknown is repeated under its key until it is known, or the caller's patience ends; what is
still unknown then is resolved after the last fault.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ops.chaos.history import History, Posted, Tenant
from ops.chaos.wires import HOST

TIMEOUT_S = 4.0
PATIENCE_S = 12.0
_PAUSE_S = 0.05
_V1 = "/api/v1"
#: What a caller is asked to try again later with.
_LATER = {429, 500, 502, 503, 504}


class Client:
    """One caller: a connection per request, to any of the APIs, as behind a load balancer."""

    def __init__(self, ports: Sequence[int], randomly: random.Random, history: History) -> None:
        self._ports, self._random, self._history = ports, randomly, history

    def call(self, method: str, path: str, key: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") when the connection did not survive it."""
        connection = http.client.HTTPConnection(HOST, self._random.choice(self._ports), timeout=TIMEOUT_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, _V1 + path, body, {"X-API-Key": key, **content, **named})
            answer = connection.getresponse()
            status, said = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            status, said = 0, b""
        finally:
            connection.close()
        self._history.saw(f"{method} {path.split('/')[1]} {status}")
        return status, said

    def post(self, posted: Posted, patience_s: float) -> None:
        """The order is accepted or refused when this returns, or its outcome is still unknown."""
        deadline = time.monotonic() + patience_s
        while True:
            posted.tries += 1
            status, said = self.call("POST", "/orders", posted.tenant.api_key, posted.body, Idempotency_Key=posted.key)
            if status == http.client.ACCEPTED:
                return self._accepted(posted, said)
            if status not in {0, 409, *_LATER}:
                posted.outcome, posted.refusal = "refused", f"{status} {said[:300]!r}"
                return None
            if time.monotonic() > deadline:
                return None
            time.sleep(self._random.uniform(0.05, 0.3))

    def _accepted(self, posted: Posted, said: bytes) -> None:
        data = json.loads(said)["data"]
        posted.answers.add(said)
        if posted.outcome != "accepted":
            posted.order_id, posted.job_id = data["order"]["id"], data["job"]["id"]
            posted.outcome, posted.accepted_at = "accepted", time.monotonic()


class Load:
    """So many callers at once, each with its own dice from the seed."""

    def __init__(
        self, ports: Sequence[int], tenants: Sequence[Tenant], history: History, seed: int, count: int
    ) -> None:
        self._tenants, self._history = tenants, history
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(ports, random.Random(f"{seed}:{number}")), daemon=True)  # noqa: S311
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_S + 2 * TIMEOUT_S)

    def _run(self, ports: Sequence[int], dice: random.Random) -> None:
        client = Client(ports, dice, self._history)
        deeds: list[tuple[Callable[[Client, random.Random], None], float]] = [
            (self._order, 0.78),
            (self._order_again, 0.06),
            (self._read, 0.06),
            (self._cancel, 0.05),
            (self._complete, 0.03),
            (self._peep, 0.02),
        ]
        weights = [weight for _, weight in deeds]
        while not self._stopping.is_set():
            ((deed, _),) = dice.choices(deeds, weights)
            deed(client, dice)
            self._stopping.wait(_PAUSE_S)

    def _order(self, client: Client, dice: random.Random) -> None:
        tenant = dice.choice(self._tenants)
        skus = dice.sample(tenant.plenty, dice.randint(1, 3)) + (
            dice.sample(tenant.scarce, 1) if dice.random() < 0.2 else []
        )
        posted = Posted(tenant, {sku: dice.randint(1, 3) for sku in skus}, time.monotonic())
        self._history.begin(posted)
        client.post(posted, PATIENCE_S)

    def _order_again(self, client: Client, dice: random.Random) -> None:
        """A retry of what was answered long ago: the same answer."""
        if posted := self._some(dice):
            client.post(posted, 0.0)

    def _read(self, client: Client, dice: random.Random) -> None:
        """What was accepted can be read from then on."""
        if posted := self._some(dice):
            status, said = client.call("GET", f"/orders/{posted.order_id}", posted.tenant.api_key)
            if status == http.client.NOT_FOUND:
                self._history.is_strange(f"accepted order {posted.order_id} was not found")
            elif status == http.client.OK and _email(said) != posted.email:
                self._history.is_strange(f"order {posted.order_id} is somebody else's")

    def _peep(self, client: Client, dice: random.Random) -> None:
        """Another tenant's order is not there."""
        if posted := self._some(dice):
            other = dice.choice([tenant for tenant in self._tenants if tenant is not posted.tenant])
            status, _ = client.call("GET", f"/orders/{posted.order_id}", other.api_key)
            if status == http.client.OK:
                self._history.is_strange(f"{other.name} could read order {posted.order_id}")

    def _cancel(self, client: Client, dice: random.Random) -> None:
        if posted := self._some(dice):
            client.call("POST", f"/orders/{posted.order_id}/cancel", posted.tenant.api_key)

    def _complete(self, client: Client, dice: random.Random) -> None:
        if posted := self._some(dice):
            client.call("POST", f"/orders/{posted.order_id}/complete", posted.tenant.api_key)

    def _some(self, dice: random.Random) -> Posted | None:
        accepted = self._history.accepted()
        return dice.choice(accepted[-200:]) if accepted else None


def _email(said: bytes) -> Any:
    return json.loads(said)["data"]["order"]["customerEmail"]
