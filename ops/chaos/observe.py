"""What is there at the end, read once when all is quiet: as a caller over HTTP, as the outside noted it, and by SQL."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, text

from domain.invariants import INVARIANTS, violations_of
from ops.chaos.clients import Client
from ops.chaos.deeds import deeds_done, tries_of_jobs
from ops.chaos.history import History, Tenant
from ops.chaos.outside import Delivery, Mail
from ops.chaos.system import System

_ORDERS = text("SELECT id, tenant_id, idempotency_key, status, root_job_id FROM orders")
_JOBS = text(
    """
    SELECT j.id, j.tenant_id, j.kind, j.state, j.attempt, j.claim, j.crashes, j.order_id, j.event_id,
           EXISTS (SELECT FROM dead_letters AS d WHERE d.job_id = j.id) AS has_letter FROM jobs AS j
    """
)
#: Attempts that came sooner than the answer before them had asked for, by more than clocks may differ.
_TOO_SOON = text(
    """
    SELECT a.job_id, a.claim FROM attempts AS a
      JOIN LATERAL (SELECT b.started_at FROM attempts AS b WHERE b.job_id = a.job_id AND b.claim > a.claim
                     ORDER BY b.claim LIMIT 1) AS next ON true
     WHERE a.detail ? 'retry_after' AND a.outcome IN ('snoozed', 'retrying')
       AND next.started_at < a.started_at + make_interval(secs => CAST(a.detail ->> 'retry_after' AS int) - 0.5)
    """
)
_EVENTS = text("SELECT id, tenant_id, type, subject FROM events")
_STOCK = text("SELECT tenant_id, sku, on_hand, reserved FROM stock")
_LEDGER = text(
    """
    SELECT tenant_id, sku, order_id, reason, on_hand_delta, reserved_delta FROM stock_ledger ORDER BY tenant_id, sku, id
    """
)
#: How often what a run must have met took place; a promise about what never happened is not proved.
_EVENTS_OF_INTEREST = {
    "a job was rescued": "SELECT count(*) FROM attempts WHERE outcome = 'crashed'",
    "a job was retried": "SELECT count(*) FROM attempts WHERE outcome = 'retrying'",
    "a job was handed back": "SELECT count(*) FROM attempts WHERE outcome = 'handed_back'",
    "a job was dead": "SELECT count(*) FROM jobs WHERE state = 'dead' AND kind <> 'chaos.deed'",
    "poison was dead after its crashes": "SELECT count(*) FROM jobs WHERE kind = 'chaos.poison' AND state = 'dead'",
    "an order found no stock": "SELECT count(*) FROM orders WHERE status = 'rejected'",
    "an order was cancelled": "SELECT count(*) FROM orders WHERE status = 'cancelled'",
    "an order was completed": "SELECT count(*) FROM orders WHERE status = 'completed'",
}


class Seen(msgspec.Struct, frozen=True):
    """Everything the checker judges by, beside the callers' own record."""

    orders: Sequence[Row[Any]]
    jobs: Sequence[Row[Any]]
    events_published: Sequence[Row[Any]]
    stock: Sequence[Row[Any]]
    ledger: Sequence[Row[Any]]
    broken_invariants: Mapping[str, list[str]]
    #: Status over HTTP of each accepted order, by its id.
    statuses: Mapping[str, str]
    deliveries: Sequence[Delivery]
    mails: Sequence[Mail]
    #: By the path of its endpoint: the tenant's id and the secret its webhooks are signed with.
    subscribers: Mapping[str, tuple[str, str]]
    events: dict[str, int]
    deeds: Sequence[Row[Any]] = ()
    tries: Sequence[Row[Any]] = ()
    #: Addresses that the mail server refused for good.
    refused: frozenset[str] = frozenset()
    #: Requests that reached what nobody may reach.
    canaries: Sequence[str] = ()
    too_soon: Sequence[Row[Any]] = ()


def look(running: System, client: Client, history: History, secrets: Sequence[tuple[Tenant, str]]) -> Seen:
    """Nothing moves any more while this reads."""
    statuses = {}
    for posted in history.accepted():
        status, said = client.call("GET", f"/orders/{posted.order_id}", posted.tenant.api_key)
        statuses[posted.order_id] = (
            msgspec.json.decode(said)["data"]["order"]["status"] if status == 200 else f"answered {status}"
        )
    with running.engine.connect() as connection:
        return Seen(
            orders=connection.execute(_ORDERS).all(),
            jobs=connection.execute(_JOBS).all(),
            events_published=connection.execute(_EVENTS).all(),
            stock=connection.execute(_STOCK).all(),
            ledger=connection.execute(_LEDGER).all(),
            broken_invariants=_broken(connection),
            statuses=statuses,
            deliveries=list(running.outside.deliveries),
            mails=list(running.outside.mails),
            subscribers={f"/{tenant.name}": (tenant.id, secret) for tenant, secret in secrets},
            events={name: connection.execute(text(query)).scalar_one() for name, query in _EVENTS_OF_INTEREST.items()},
            deeds=deeds_done(connection),
            tries=tries_of_jobs(connection),
            refused=frozenset(running.outside.refused),
            canaries=list(running.outside.canaries),
            too_soon=connection.execute(_TOO_SOON).all(),
        )


def _broken(connection: Connection) -> dict[str, list[str]]:
    found = {invariant.name: violations_of(connection, invariant) for invariant in INVARIANTS}
    return {name: [str(row) for row in rows] for name, rows in found.items() if rows}
