"""Rivals: callers who get in each other's way, at the same moment."""

import random
from collections.abc import Sequence
from threading import Thread

from ops.chaos.clients import PATIENCE_S, Client
from ops.chaos.history import History, Posted, Tenant, Verb

EVERY_S = 0.15
#: Of the orders accepted last, so many are worth fighting for.
_FRESH = 20


class Rivals:
    """`quarrel` starts one quarrel, and returns when it is over."""

    def __init__(self, ports: Sequence[int], tenants: Sequence[Tenant], history: History, dice: random.Random) -> None:
        self._client = Client(ports, dice, history)
        self._tenants, self._history, self._dice = tenants, history, dice
        self._fought = set[tuple[str, str]]()

    def quarrel(self) -> None:
        if fresh := self._history.recent(self._dice, _FRESH):
            about = self._dice.choice([self._use_its_key, self._end_it_twice])
            about(fresh)

    def _use_its_key(self, posted: Posted) -> None:
        """Another tenant orders under the same key: both orders are right."""
        other = self._dice.choice([tenant for tenant in self._tenants if tenant.id != posted.tenant.id])
        if (other.id, posted.key) in self._fought:
            return
        self._fought |= {(other.id, posted.key), (posted.tenant.id, posted.key)}
        rival = Posted(other, {self._dice.choice(other.plenty): 1}, key=posted.key)
        self._history.begin(rival)
        self._client.post(rival, PATIENCE_S)

    def _end_it_twice(self, posted: Posted) -> None:
        """Two want the same order cancelled, or one of them completed: it ends once."""
        verbs: list[Verb] = [self._dice.choice(["cancel", "complete"]) for _ in range(2)]
        threads = [Thread(target=self._client.end, args=(posted, verb)) for verb in verbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
