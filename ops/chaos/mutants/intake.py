"""Seeded bugs of the intake and of what callers read."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.pool import NullPool

from api.ingress import Answer, Ingress
from domain.errors import DependencyUnavailable
from domain.ids import new_id
from domain.orders.intake import AcceptedOrder, IntakeOrder, accept_orders
from domain.tables.orders import orders as orders_table
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite

_DURABLE = "accepted is durable, and decided"


@mutant(_DURABLE, faults=["api-kill9"])
def answer_before_the_commit() -> None:
    """202 is said before the commit, which comes a fifth of a second later: a crash in between loses the order."""

    def answer_first(self: Ingress, wanted: Sequence[IntakeOrder]) -> Sequence[Answer]:
        engine = create_engine(self._engine.url, poolclass=NullPool)
        connection = engine.connect()
        answers = accept_orders(connection, wanted)
        Thread(target=_commit_later, args=(connection,), daemon=True).start()
        return answers

    replace(Ingress, "_store", answer_first)


def _commit_later(connection: Connection) -> None:
    time.sleep(0.2)
    with connection:
        connection.commit()


@mutant(_DURABLE, faults=["postgresql-kill9"])
def commits_without_waiting() -> None:
    """PostgreSQL says that it has committed before it is on disk: a crash takes the last moments back."""
    database = imported("domain.database")
    make = database.create_engine

    def make_hasty(url: str, *, connect_args: dict[str, Any], **more: Any) -> Any:
        options = f"{connect_args['options']} -c synchronous_commit=off"
        return make(url, connect_args={**connect_args, "options": options}, **more)

    replace(database, "create_engine", make_hasty)


_GIVE_KEYS = text(
    """
    UPDATE orders SET idempotency_key = t.key FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[])) AS t(id, key)
     WHERE orders.id = t.id
    """
)


@mutant("nothing comes from nowhere", "one key, one order, one answer", faults=["api-kill9", "sessions-ended"])
def key_after_the_order() -> None:
    """The key is written in a transaction of its own: after a crash in between, a retry makes a second order."""

    def accept(connection: Connection, wanted: Sequence[IntakeOrder]) -> list[Any]:
        known = _known(connection, wanted)
        nameless = [
            order if order.idempotency_key in known else msgspec.structs.replace(order, idempotency_key=uuid4().hex)
            for order in wanted
        ]
        answers = accept_orders(connection, nameless)
        time.sleep(0.02)
        made = {
            answer.order_id: order.idempotency_key
            for order, answer in zip(wanted, answers, strict=True)
            if isinstance(answer, AcceptedOrder) and not answer.replayed
        }
        connection.execute(_GIVE_KEYS, {"ids": list(made), "keys": list(made.values())})
        return answers

    replace(imported("api.ingress"), "accept_orders", accept)


def _known(connection: Connection, wanted: Sequence[IntakeOrder]) -> set[str]:
    keys = orders_table.c.idempotency_key
    return set(connection.execute(select(keys).where(keys.in_([one.idempotency_key for one in wanted]))).scalars())


@mutant("what is right is not refused", _DURABLE)
def key_of_any_tenant() -> None:
    """A key that another tenant has used is taken: the order is refused, or somebody else's is answered."""
    module, conflict = "domain.orders.intake", "ON CONFLICT (tenant_id, idempotency_key)"
    is_new = "WHERE NOT EXISTS (SELECT FROM orders AS o WHERE o.idempotency_key = incoming.key)"
    rewrite(module, "_ACCEPT", conflict, f"{is_new} {conflict}")
    rewrite(module, "_TWINS", "SELECT o.tenant_id", "SELECT t.tenant_id")
    rewrite(module, "_TWINS", "o.tenant_id = t.tenant_id AND ", "")


@mutant(_DURABLE, faults=["sessions-ended", "postgresql-kill9"])
def outage_is_a_202() -> None:
    """An order that could not be stored is answered as if it were: the database will be back, somebody thought."""
    store = Ingress._store

    def store_or_hope(self: Ingress, wanted: Sequence[IntakeOrder]) -> Sequence[Answer]:
        answers = store(self, wanted)
        hoped = AcceptedOrder(new_id(), new_id(), datetime.now(UTC))
        return [hoped if isinstance(answer, DependencyUnavailable) else answer for answer in answers]

    replace(Ingress, "_store", store_or_hope)


@mutant("no caller is answered 500", faults=["sessions-ended", "postgresql-kill9"])
def outage_is_a_500() -> None:
    """That the database does not answer takes the API by surprise."""
    envelope = imported("api.envelope")
    classify = envelope.classify

    def classify_surprised(*what: Any) -> Any:
        failure = classify(*what)
        return msgspec.structs.replace(failure, status=500) if failure.status == 503 else failure

    replace(envelope, "classify", classify_surprised)


@mutant("callers see what they were told")
def any_tenant_reads() -> None:
    """An order is read by its id alone, whoever asks."""

    def get_any(tx: Connection, _tenant_id: UUID, order_id: UUID) -> Any:
        return tx.execute(select(orders_table).where(orders_table.c.id == order_id)).one()

    replace(imported("api.routes.orders"), "get_order", get_any)
