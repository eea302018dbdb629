"""Seeded bugs: the product, broken in one place, so that the checker can show that it would notice.

Each is grafted onto the processes of a run by the harness alone (`ops.chaos.process`); none is reachable in production.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec
from sqlalchemy import TextClause, text


class Mutant(msgspec.Struct, frozen=True):
    """One bug: what it breaks, and how it is grafted on."""

    name: str
    summary: str
    graft: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(function: Callable[[], None]) -> Callable[[], None]:
    name = function.__name__.replace("_", "-")
    MUTANTS[name] = Mutant(name, (function.__doc__ or "").strip(), function)
    return function


def rewrite(module: str, name: str, old: str, new: str) -> None:
    """This constant of a module, SQL as text or as a string, with one piece replaced. Fails when the piece is gone."""
    holder: Any = import_module(module)
    was = getattr(holder, name)
    sql = was.text if isinstance(was, TextClause) else was
    if old not in sql:
        raise ValueError(f"{module}.{name} does not say {old!r} any more: the mutant must be made anew")
    changed = sql.replace(old, new)
    setattr(holder, name, text(changed) if isinstance(was, TextClause) else changed)


@mutant
def finish_without_its_fence() -> None:
    """A worker whose job was taken over may still finish it."""
    rewrite("domain.jobs.finish", "_SUCCEED", " AND claim = :claim AND state = 'running'", " AND :claim > 0")


@mutant
def answer_before_the_commit() -> None:
    """202 is said when the statement is sent, and the commit comes half a second later: a crash in between loses it."""
    import time  # noqa: PLC0415  # one use
    from datetime import UTC, datetime  # noqa: PLC0415
    from threading import Thread  # noqa: PLC0415

    from api.ingress import Ingress  # noqa: PLC0415
    from domain.ids import new_id  # noqa: PLC0415
    from domain.orders import intake  # noqa: PLC0415

    store = Ingress._store

    def answer_first(self: Ingress, orders: Any) -> Any:
        ids = {order.idempotency_key: (new_id(), new_id()) for order in orders}

        def store_later() -> None:  # the ids are promised; the rows get others, or none
            time.sleep(0.5)
            store(self, orders)

        Thread(target=store_later, daemon=True).start()
        return [intake.AcceptedOrder(*ids[order.idempotency_key], datetime.now(UTC)) for order in orders]

    Ingress._store = answer_first  # type: ignore[method-assign]


@mutant
def message_id_for_each_attempt() -> None:
    """A mail that is sent again has another Message-ID."""
    from uuid import uuid4  # noqa: PLC0415

    from workers.clients.mailer import Mailer  # noqa: PLC0415

    send = Mailer.send
    Mailer.send = lambda self, mail, **_: send(self, mail, idempotency_key=uuid4())  # type: ignore[method-assign]


@mutant
def webhook_id_for_each_attempt() -> None:
    """A webhook that is delivered again has another id."""
    from uuid import uuid4  # noqa: PLC0415

    import_module("workers.handlers.webhooks").message_id = lambda _event_id: f"msg_{uuid4().hex}"  # type: ignore[attr-defined]


@mutant
def rows_ring_once() -> None:
    """What was rung and not claimed never rings again."""
    from workers import flows  # noqa: PLC0415

    flows.Ring.is_over = lambda *_, **__: False  # type: ignore[method-assign]
    rewrite("domain.jobs.due", "_RING_IN_LANES", "make_interval(secs =>", "make_interval(years => 1, secs =>")


@mutant
def leases_are_for_ever() -> None:
    """Nobody takes over the jobs of a worker that fell silent."""
    rewrite("domain.jobs.rescue", "_EXPIRED", "lease_until < clock_timestamp()", "false")
