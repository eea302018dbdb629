"""What is there at the end, read once when all is quiet: as a caller over HTTP, as the outside noted it, and by SQL."""

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, Row, text

from domain.invariants import INVARIANTS, violations_of
from ops.chaos.clients import Client
from ops.chaos.deeds import deeds_done
from ops.chaos.errands import download
from ops.chaos.history import Endpoint, History, Tenant
from ops.chaos.outside import Delivery, Mail
from ops.chaos.said import Said, what_was_said
from ops.chaos.sometimes import Sources, events_of
from ops.chaos.system import ChaosFailed, System
from ops.chaos.tenants import secrets_of
from ops.chaos.ticks import ticks_fired

_ORDERS = text(
    """
    SELECT o.id, o.tenant_id, o.idempotency_key, o.customer_email, o.currency, o.status, o.root_job_id, o.created_at,
           (SELECT jsonb_object_agg(l.sku, l.quantity) FROM order_lines AS l
             WHERE l.tenant_id = o.tenant_id AND l.order_id = o.id) AS lines FROM orders AS o
    """
)
_JOBS = text(
    """
    SELECT j.id, j.tenant_id, j.kind, j.state, j.attempt, j.claim, j.crashes, j.order_id, j.event_id, j.created_at,
           j.started_at, j.finished_at, j.args ->> 'endpoint_id' AS endpoint_id, j.result ->> 'code' AS code,
           j.args ->> 'how' AS how, CAST(j.args ->> 'fails' AS boolean) AS fails, j.args,
           EXISTS (SELECT FROM dead_letters AS d WHERE d.job_id = j.id
                      AND d.resolution IS DISTINCT FROM 'replayed') AS has_letter FROM jobs AS j
    """
)
_ATTEMPTS = text("SELECT job_id, claim, number, started_at, finished_at, outcome FROM attempts ORDER BY job_id, claim")
#: `number` is that of the attempt which was the last one.
_LETTERS = text(
    """
    SELECT id, job_id, kind, cause, resolution, replay_job_id, died_at,
           coalesce(CAST(snapshot ->> 'attempts' AS int), 0) AS number FROM dead_letters
    """
)
_ENDPOINTS = text("SELECT CAST(id AS text), url FROM webhook_endpoints")
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
_EVENTS = text("SELECT id, tenant_id, type, subject, occurred_at FROM events")
_STOCK = text("SELECT tenant_id, sku, on_hand, reserved FROM stock")
_LEDGER = text(
    """
    SELECT id, at, tenant_id, sku, order_id, reason, on_hand_delta, reserved_delta FROM stock_ledger
     ORDER BY tenant_id, sku, id
    """
)
_TRIES, _READERS = 5, 4


class Seen(msgspec.Struct, frozen=True):
    """Everything the checker judges by, beside the callers' own record."""

    orders: Sequence[Row[Any]]
    jobs: Sequence[Row[Any]]
    #: By job and claim.
    attempts: Sequence[Row[Any]]
    letters: Sequence[Row[Any]]
    events_published: Sequence[Row[Any]]
    stock: Sequence[Row[Any]]
    #: By tenant, SKU and id.
    ledger: Sequence[Row[Any]]
    broken_invariants: Mapping[str, list[str]]
    #: Status over HTTP of each order, by its id.
    statuses: Mapping[str, str]
    #: Likewise what it costs, in dollars.
    totals: Mapping[str, float]
    #: State over HTTP of each report that was promised, by its id.
    report_states: Mapping[str, str]
    deliveries: Sequence[Delivery]
    mails: Sequence[Mail]
    #: Those that stand all the time, and those that came and went.
    endpoints: Sequence[Endpoint]
    said: Said
    events: dict[str, int]
    deeds: Sequence[Row[Any]] = ()
    #: By schedule.
    ticks: Sequence[Row[Any]] = ()
    #: Addresses that the mail server refused for good.
    refused: frozenset[str] = frozenset()
    #: Requests that reached what nobody may reach.
    canaries: Sequence[str] = ()
    too_soon: Sequence[Row[Any]] = ()
    #: What came to paths that only a fault knows.
    aside: Sequence[Delivery] = ()
    #: By the id of an endpoint, the path that it stands or stood at.
    paths: Mapping[str, str] = {}


def look(running: System, history: History, lasting: Sequence[Endpoint]) -> Seen:
    """Nothing moves any more while this reads. Raises ChaosFailed when a list cannot be read to its end."""
    tenants = list({posted.tenant.id: posted.tenant for posted in history.posted}.values())
    endpoints = [*lasting, *history.endpoints]
    with ThreadPoolExecutor(_READERS) as pool:
        listed = [one for of in pool.map(lambda each: _listed(running, history, each), tenants) for one in of]
    client = _client(running, history)
    report_states = {asked.report_id: download(client, asked, history) for asked in history.reports}
    said = what_was_said(running.folder / "system.log", secrets_of(running, tenants, endpoints))
    deliveries, mails = list(running.outside.deliveries), list(running.outside.mails)
    with running.engine.connect() as connection:
        return Seen(
            orders=connection.execute(_ORDERS).all(),
            jobs=connection.execute(_JOBS).all(),
            attempts=connection.execute(_ATTEMPTS).all(),
            letters=connection.execute(_LETTERS).all(),
            events_published=connection.execute(_EVENTS).all(),
            stock=connection.execute(_STOCK).all(),
            ledger=connection.execute(_LEDGER).all(),
            broken_invariants=_broken(connection),
            statuses={order["id"]: order["status"] for order in listed},
            totals={order["id"]: order["total"] for order in listed},
            report_states=report_states,
            deliveries=deliveries,
            mails=mails,
            endpoints=endpoints,
            said=said,
            events=events_of(Sources(connection, history, said, deliveries, mails)),
            deeds=deeds_done(connection),
            ticks=ticks_fired(connection),
            refused=frozenset(running.outside.refused),
            canaries=list(running.outside.canaries),
            too_soon=connection.execute(_TOO_SOON).all(),
            aside=list(running.outside.aside),
            paths=_paths(connection, [*endpoints, *history.guests]),
        )


def _client(running: System, history: History) -> Client:
    return Client(list(running.ports.values()), random.Random(0), history)  # noqa: S311


def _listed(running: System, history: History, tenant: Tenant) -> list[dict[str, Any]]:
    """Every order of a tenant, as its list shows them, page by page."""
    client = _client(running, history)
    return [order for page in _pages(client, tenant) for order in page]


def _pages(client: Client, tenant: Tenant) -> Iterator[list[dict[str, Any]]]:
    cursor = ""
    while True:
        page = _page(client, f"/orders?limit=100{cursor}", tenant.api_key)
        yield page["data"]
        if not page["pagination"]["hasMore"]:
            return
        cursor = f"&cursor={page['pagination']['nextCursor']}"


def _page(client: Client, path: str, key: str) -> Any:
    for _ in range(_TRIES):
        status, said = client.call("GET", path, key)
        if status == 200:
            return msgspec.json.decode(said)
    raise ChaosFailed("the orders cannot be listed")


def _paths(connection: Connection, known: Sequence[Endpoint]) -> dict[str, str]:
    """Those whose answer was lost stand to the end: nobody knows them, and nobody deletes them."""
    standing = {endpoint_id: urlsplit(url).path for endpoint_id, url in connection.execute(_ENDPOINTS)}
    return standing | {endpoint.id: endpoint.path for endpoint in known if endpoint.id}


def _broken(connection: Connection) -> dict[str, list[str]]:
    found = {invariant.name: violations_of(connection, invariant) for invariant in INVARIANTS}
    return {name: [str(row) for row in rows] for name, rows in found.items() if rows}
