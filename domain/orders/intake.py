"""Taking orders in: order, lines, root job and obligation of many orders in one statement, one commit.

The idempotency key is a column of the order, so a crash leaves no half state and the key lives as long as the order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.errors import BodyInvalid, IdempotencyKeyReused, LongshoreError, Violation
from domain.ids import new_id
from domain.job_kinds import ReserveInventory
from domain.jobs.kind import kind_of_class
from domain.jobs.outbox import INSERT_NEW_JOBS
from domain.standby import wait_for_standby

#: The kind of the job that every order begins with.
ROOT = kind_of_class(ReserveInventory)

#: In minor units: 15 digits, which a JSON number carries exactly everywhere.
LARGEST_TOTAL = 10**15


class IntakeLine(msgspec.Struct, frozen=True):
    """One line as the caller asked for it."""

    sku: str
    quantity: int


class IntakeOrder(msgspec.Struct, frozen=True):
    """A validated order that is not yet accepted. `request_hash` is the SHA-256 of the canonical request."""

    tenant_id: UUID
    idempotency_key: str
    request_hash: bytes
    customer_email: str
    currency: str
    lines: Sequence[IntakeLine]
    trace_context: str | None = None


class AcceptedOrder(msgspec.Struct, frozen=True):
    """A durable order. `replayed` = its key had been used for the same request before."""

    order_id: UUID
    job_id: UUID
    created_at: datetime
    replayed: bool = False


class _OrderRow(msgspec.Struct, frozen=True):
    id: UUID
    job_id: UUID
    tenant_id: UUID
    key: str
    hash: str
    email: str
    currency: str
    total: int
    args: str
    trace_context: str | None


class _LineRow(msgspec.Struct, frozen=True):
    order_id: UUID
    tenant_id: UUID
    sku: str
    quantity: int
    unit_price: int
    name: str


class _Offer(msgspec.Struct, frozen=True):
    """What the catalogue says of a product at the time of the order."""

    price: int
    currency: str
    name: str


_PRICES = text(
    """
    SELECT p.tenant_id, p.sku, p.price, p.currency, p.name FROM products AS p
      JOIN (SELECT DISTINCT * FROM unnest(CAST(:tenants AS uuid[]), CAST(:skus AS text[])) AS t(tenant_id, sku)) AS t
     USING (tenant_id, sku)
    """
)

_ACCEPT = text(
    """
    WITH incoming AS (
        SELECT * FROM json_to_recordset(CAST(:orders AS json))
          AS t(id uuid, job_id uuid, tenant_id uuid, key text, hash bytea, email text, currency text, total bigint,
               args text, trace_context text)),
    accepted AS (
        INSERT INTO orders (id, tenant_id, idempotency_key, request_hash, customer_email, currency, total, root_job_id)
        SELECT id, tenant_id, key, hash, email, currency, total, job_id FROM incoming
            ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
     RETURNING id, created_at),
    lines AS (
        INSERT INTO order_lines (order_id, tenant_id, sku, quantity, unit_price, name)
        SELECT l.* FROM json_to_recordset(CAST(:lines AS json))
                        AS l(order_id uuid, tenant_id uuid, sku text, quantity int, unit_price bigint, name text)
          JOIN accepted ON accepted.id = l.order_id),
    new_jobs AS (
        SELECT i.job_id AS id, i.tenant_id, :kind AS kind, :queue AS queue, i.args, CAST(:max_attempts AS int) AS
               max_attempts, CAST(0 AS smallint) AS priority, CAST(NULL AS timestamptz) AS due_at,
               CAST(NULL AS timestamptz) AS deadline_at, i.id AS order_id, CAST(NULL AS uuid) AS event_id,
               CAST(NULL AS uuid) AS parent_id, CAST(NULL AS text) AS lane, i.trace_context,
               CAST(NULL AS text) AS unique_key
          FROM incoming AS i JOIN accepted ON accepted.id = i.id),
    """  # noqa: S608  # constants of ours
    + INSERT_NEW_JOBS
    + "SELECT id, created_at FROM accepted"
)

_TWINS = text(
    """
    SELECT o.tenant_id, o.idempotency_key, o.id, o.root_job_id, o.created_at, o.request_hash FROM orders AS o
      JOIN (SELECT DISTINCT * FROM unnest(CAST(:tenants AS uuid[]), CAST(:keys AS text[])) AS t(tenant_id, key)) AS t
        ON o.tenant_id = t.tenant_id AND o.idempotency_key = t.key
    """
)


def accept_orders(connection: Connection, orders: Sequence[IntakeOrder]) -> list[AcceptedOrder | LongshoreError]:
    """One answer per order, in order: durable when this returns on an autocommit connection.

    An order whose key is known answers as the first one did, or IdempotencyKeyReused for another request. An unknown
    SKU or a foreign currency is BodyInvalid and stores nothing. A database error fails the whole call; what it stored
    then, if anything, the keys find.
    """
    prices = _prices(connection, orders)
    problems = {index: found for index, order in enumerate(orders) if (found := _violations(order, prices))}
    ids = {index: (new_id(), new_id()) for index in range(len(orders)) if index not in problems}
    accepted = _insert(connection, orders, ids, prices)
    answers: dict[int, AcceptedOrder | LongshoreError] = {
        index: AcceptedOrder(order_id, job_id, accepted[order_id])
        for index, (order_id, job_id) in ids.items()
        if order_id in accepted
    }
    rest = [index for index in range(len(orders)) if index not in answers]
    answers.update(_known_or_refused(connection, {index: orders[index] for index in rest}, problems))
    return [answers[index] for index in range(len(orders))]


def _prices(connection: Connection, orders: Sequence[IntakeOrder]) -> dict[tuple[UUID, str], _Offer]:
    pairs = {(order.tenant_id, line.sku) for order in orders for line in order.lines}
    bounds = {"tenants": [tenant for tenant, _ in pairs], "skus": [sku for _, sku in pairs]}
    return {(tenant, sku): _Offer(*offer) for tenant, sku, *offer in connection.execute(_PRICES, bounds)}


def _violations(order: IntakeOrder, prices: Mapping[tuple[UUID, str], _Offer]) -> list[Violation]:
    found = []
    for position, line in enumerate(order.lines):
        offer = prices.get((order.tenant_id, line.sku))
        if offer is None:
            found.append(Violation(f"lines[{position}].sku", "no such product", "UNKNOWN_SKU"))
        elif offer.currency != order.currency:
            found.append(Violation("currency", f"{line.sku} is priced in {offer.currency}", "CURRENCY_MISMATCH"))
    if not found and _total(order, prices) > LARGEST_TOTAL:
        found.append(Violation("lines", "the total is too large", "OUT_OF_RANGE"))
    return found


def _total(order: IntakeOrder, prices: Mapping[tuple[UUID, str], _Offer]) -> int:
    return sum(line.quantity * prices[order.tenant_id, line.sku].price for line in order.lines)


def _insert(
    connection: Connection,
    orders: Sequence[IntakeOrder],
    ids: Mapping[int, tuple[UUID, UUID]],
    prices: Mapping[tuple[UUID, str], _Offer],
) -> dict[UUID, datetime]:
    if not ids:
        return {}
    # Sorted by key: two flushes that hold the same two keys in opposite order would deadlock.
    indexes = sorted(ids, key=lambda index: (orders[index].tenant_id, orders[index].idempotency_key))
    rows = [_order_row(orders[index], *ids[index], prices) for index in indexes]
    lines = [
        _LineRow(
            ids[index][0],
            orders[index].tenant_id,
            line.sku,
            line.quantity,
            (offer := prices[orders[index].tenant_id, line.sku]).price,
            offer.name,
        )
        for index in indexes
        for line in orders[index].lines
    ]
    kind = {"kind": ROOT.name, "queue": ROOT.queue, "max_attempts": ROOT.retry.max_attempts}
    accepted = connection.execute(_ACCEPT, {"orders": _as_json(rows), "lines": _as_json(lines), **kind})
    return {order_id: created_at for order_id, created_at in accepted}  # noqa: C416  # mypy knows no pairs in rows


def _as_json(rows: Sequence[msgspec.Struct]) -> str:
    # Not arrays: psycopg writes them element by element, which took two thirds of the processor time of a flush.
    return msgspec.json.encode(rows).decode()


def _order_row(
    order: IntakeOrder, order_id: UUID, job_id: UUID, prices: Mapping[tuple[UUID, str], _Offer]
) -> _OrderRow:
    return _OrderRow(
        id=order_id,
        job_id=job_id,
        tenant_id=order.tenant_id,
        key=order.idempotency_key,
        hash=f"\\x{order.request_hash.hex()}",
        email=order.customer_email,
        currency=order.currency,
        total=_total(order, prices),
        args=msgspec.json.encode(ReserveInventory(order_id)).decode(),
        trace_context=order.trace_context,
    )


def _known_or_refused(
    connection: Connection, orders: Mapping[int, IntakeOrder], problems: Mapping[int, list[Violation]]
) -> dict[int, AcceptedOrder | LongshoreError]:
    if not orders:
        return {}
    # A second statement on purpose: the snapshot of the first is older than the twin it waited for.
    bounds = {
        "tenants": [order.tenant_id for order in orders.values()],
        "keys": [order.idempotency_key for order in orders.values()],
    }
    known = {(row.tenant_id, row.idempotency_key): row for row in connection.execute(_TWINS, bounds)}
    if known:
        wait_for_standby(connection)  # nobody knows here how the commit of the first one ended
    answers: dict[int, AcceptedOrder | LongshoreError] = {}
    for index, order in orders.items():
        twin = known.get((order.tenant_id, order.idempotency_key))
        if twin is None:
            answers[index] = BodyInvalid(violations=problems[index])
        elif twin.request_hash != order.request_hash:
            answers[index] = IdempotencyKeyReused()
        else:
            answers[index] = AcceptedOrder(twin.id, twin.root_job_id, twin.created_at, replayed=True)
    return answers
