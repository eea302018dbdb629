"""Trespass: a tenant asks for what is another's, under its right name. It is not there."""

import random
from collections.abc import Sequence

from ops.chaos.clients import Client
from ops.chaos.history import Asked, History, Posted, Tenant

#: The method, and where it leads.
Way = tuple[str, str]


class Trespass:
    """One for all callers. `peep` tries one way into one thing that somebody else was told of."""

    def __init__(self, tenants: Sequence[Tenant], history: History) -> None:
        self._tenants, self._history = tenants, history

    def peep(self, client: Client, dice: random.Random) -> None:
        if posted := self._history.recent(dice):
            asked = next((one for one in reversed(self._history.reports) if one.tenant is posted.tenant), None)
            method, path = dice.choice(_ways(posted, asked))
            other = dice.choice([tenant for tenant in self._tenants if tenant is not posted.tenant])
            answer = client.ask(method, path, other.admin_key)
            self._history.did("peep", answer.done)
            if answer.done == "ok":
                self._history.is_strange(f"{other.name} was answered {answer.status} to {method} {path}")


def _ways(posted: Posted, asked: Asked | None) -> list[Way]:
    order, job = f"/orders/{posted.order_id}", f"/jobs/{posted.job_id}"
    ways = [("GET", order), ("GET", f"{order}/summary"), ("GET", f"{order}/jobs")]
    ways += [("POST", f"{order}/cancel"), ("POST", f"{order}/complete"), ("GET", job), ("POST", f"{job}/cancel")]
    ways += [("GET", f"/products/{product_id}") for product_id in list(posted.tenant.product_ids.values())[:1]]
    if asked:
        ways += [("GET", f"/reports/{asked.report_id}"), ("GET", f"/reports/{asked.report_id}/download")]
    return ways
