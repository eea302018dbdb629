"""The load: so many callers at once, each doing what its own dice say, from the seed.

A post whose outcome is unknown is repeated until it is known, or the caller's patience ends; what is still unknown then
is resolved after the last fault.
"""

import http.client
import json
import random
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from ops.chaos.clients import PATIENCE_S, TIMEOUT_S, Client
from ops.chaos.errands import Errand, Errands
from ops.chaos.history import History, Posted, Tenant
from ops.chaos.trespass import Trespass

PAUSE_S = 0.02
#: Of the lines of an order, the share that asks for what runs out.
_SCARCE = 0.2

AT_ONE_MOMENT = "two posts of one key at one moment"


class Load:
    """`start` and `stop` it once."""

    def __init__(
        self,
        ports: Sequence[int],
        tenants: Sequence[Tenant],
        history: History,
        seed: int,
        count: int,
        webhook_port: int,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._ports, self._tenants, self._history = ports, tenants, history
        self._stopping, self._pause_s = threading.Event(), pause_s
        errands = Errands(tenants, history, webhook_port)
        self._errands: list[tuple[Errand, float]] = [
            (self._order, 0.75),
            (self._order_again, 0.05),
            (self._order_twice_at_once, 0.01),
            (self._reuse_a_key, 0.01),
            (self._order_what_nobody_sells, 0.02),
            (self._read, 0.04),
            (Trespass(tenants, history).peep, 0.03),
            (self._cancel, 0.04),
            (self._complete, 0.02),
            *errands.all,
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}:{number}"),), daemon=True)  # noqa: S311
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_S + 2 * TIMEOUT_S)

    def _run(self, dice: random.Random) -> None:
        client = Client(self._ports, dice, self._history)
        errands = [errand for errand, _ in self._errands]
        weights = [weight for _, weight in self._errands]
        while not self._stopping.is_set():
            dice.choices(errands, weights)[0](client, dice)
            self._stopping.wait(self._pause_s)
        client.close()

    def _order(self, client: Client, dice: random.Random) -> None:
        client.post(self._wanted(dice), PATIENCE_S)

    def _wanted(self, dice: random.Random) -> Posted:
        tenant = dice.choice(self._tenants)
        skus = dice.sample(tenant.plenty, dice.randint(1, 3))
        if dice.random() < _SCARCE:
            skus += dice.sample(tenant.scarce, 1)
        posted = Posted(tenant, {sku: dice.randint(1, 3) for sku in skus})
        self._history.begin(posted)
        return posted

    def _order_again(self, client: Client, dice: random.Random) -> None:
        """A retry of what was answered long ago: the same answer."""
        if posted := self._history.recent(dice):
            client.post(posted, 0.0)

    def _order_twice_at_once(self, client: Client, dice: random.Random) -> None:
        """Two threads of one caller post the same at the same moment: one order, one answer."""
        posted = self._wanted(dice)
        other = Client(self._ports, random.Random(dice.random()), self._history)  # noqa: S311
        twin = threading.Thread(target=other.post, args=(posted, PATIENCE_S), daemon=True)
        twin.start()
        client.post(posted, PATIENCE_S)
        twin.join()
        other.close()
        if posted.outcome == "accepted":
            self._history.meets(AT_ONE_MOMENT)

    def _reuse_a_key(self, client: Client, dice: random.Random) -> None:
        """The same key for something else is refused, and makes no order."""
        if posted := self._history.recent(dice):
            more = msgspec.structs.replace(posted, lines={sku: units + 1 for sku, units in posted.lines.items()})
            answer = client.ask("POST", "/orders", more.tenant.api_key, more.body, Idempotency_Key=more.key)
            refused = answer.status == http.client.UNPROCESSABLE_ENTITY
            self._history.did("key reused", "ok" if refused else answer.done)
            if not refused and 0 < answer.status < http.client.INTERNAL_SERVER_ERROR:
                self._history.is_strange(f"key {posted.key} with another body was answered {answer.status}")

    def _order_what_nobody_sells(self, client: Client, dice: random.Random) -> None:
        """It is refused, whatever is ordered with it, and whoever orders at the same moment."""
        tenant = dice.choice(self._tenants)
        wanted = Posted(tenant, {dice.choice(tenant.plenty): 1, f"NOTHING-{dice.randrange(10**6)}": 1})
        answer = client.ask("POST", "/orders", tenant.api_key, wanted.body, Idempotency_Key=wanted.key)
        self._history.did("order of nothing", answer.done)
        if answer.done == "ok" or answer.status in {http.client.BAD_REQUEST, http.client.CONFLICT}:
            self._history.is_strange(f"an order of what nobody sells was answered {answer.status}")

    def _read(self, client: Client, dice: random.Random) -> None:
        """What was accepted can be read from then on."""
        if posted := self._history.recent(dice):
            answer = client.ask("GET", f"/orders/{posted.order_id}", posted.tenant.api_key)
            self._history.did("read", answer.done)
            if answer.status == http.client.NOT_FOUND:
                self._history.is_strange(f"accepted order {posted.order_id} was not found")
            elif answer.status == http.client.OK and _email(answer.body) != posted.email:
                self._history.is_strange(f"order {posted.order_id} is somebody else's")

    def _cancel(self, client: Client, dice: random.Random) -> None:
        if posted := self._history.recent(dice):
            client.end(posted, "cancel")

    def _complete(self, client: Client, dice: random.Random) -> None:
        if posted := self._history.recent(dice):
            client.end(posted, "complete")


def _email(said: bytes) -> Any:
    return json.loads(said)["data"]["order"]["customerEmail"]
