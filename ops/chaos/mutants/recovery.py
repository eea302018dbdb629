"""Seeded bugs of what comes after an outage, and of what shall go on during one."""

import os
import time
from collections.abc import Sequence

from api.ingress import Answer, Ingress
from api.relay_bell import RelayBell
from domain.errors import DependencyUnavailable
from domain.jobs.relay_bell import Hint
from domain.orders.intake import AcceptedOrder, IntakeOrder
from ops.chaos.flags import NAME
from ops.chaos.mutants.graft import mutant, replace, rewrite
from workers.lifecycle import Lifecycle

#: A ring takes so long only when nobody answers it.
_AWAY_S = 0.5


@mutant("liveness", faults=["postgresql-kill9"])
def intake_never_recovers() -> None:
    """After the first outage that it meets, one API of two refuses every order, and says that it is ready."""
    store, met = Ingress._store, list[Answer]()

    def store_until_an_outage(self: Ingress, wanted: Sequence[IntakeOrder]) -> Sequence[Answer]:
        if met:
            return [DependencyUnavailable() for _ in wanted]
        answers = store(self, wanted)
        if os.environ.get(NAME) == "web-0":
            met.extend(answer for answer in answers if isinstance(answer, DependencyUnavailable))
        return answers

    replace(Ingress, "_store", store_until_an_outage)


@mutant("orders are taken without Valkey", faults=["valkey-stop"])
def no_intake_without_valkey() -> None:
    """While Valkey is away, orders are answered 503."""
    ring, accept, away_at = RelayBell._ring, Ingress.accept, [float("-inf")]

    async def ring_and_note(self: RelayBell, hint: Hint | None) -> None:
        began = time.monotonic()
        await ring(self, hint)
        if time.monotonic() - began >= _AWAY_S:
            away_at[0] = time.monotonic()

    async def accept_with_valkey(self: Ingress, order: IntakeOrder, waited_s: float = 0.0) -> AcceptedOrder:
        accepted = await accept(self, order, waited_s)
        if time.monotonic() - away_at[0] < 2 * _AWAY_S:
            raise DependencyUnavailable
        return accepted

    replace(RelayBell, "_ring", ring_and_note)
    replace(Ingress, "accept", accept_with_valkey)


@mutant("who is told to leave leaves", faults=["worker-term"])
def deaf_to_signals() -> None:
    """SIGTERM is heard, and nothing follows from it."""
    replace(Lifecycle, "_on_signal", lambda *_: None)


@mutant("whoever lives keeps its lease")
def leases_are_not_renewed() -> None:
    """Whoever works longer than a lease loses it, and somebody else begins."""
    anew = "SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)"
    rewrite(
        "domain.jobs.attempts", "_RENEW", anew, "SET lease_until = lease_until + make_interval(secs => 0 * :lease_s)"
    )
