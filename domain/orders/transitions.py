"""The status of an order and who moves it. Each move is one guarded statement and publishes its event.

accepted -> confirmed | rejected | failed      by its root job (a replay moves failed on)
confirmed -> cancelled | completed             by the release or the shipment a caller asked for
failed -> cancelled                            by a release asked for while the order was undecided
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import Connection, select, text

from domain.errors import InvalidState, NotFound, OrderNotCancellable
from domain.event_types import OrderFailed
from domain.events import Occurrence, publish
from domain.job_kinds import ReleaseInventory, ShipInventory
from domain.jobs.outbox import NewJob, enqueue, new_job
from domain.tables.orders import orders
from domain.versions import check_version

_FAIL = text(
    """
    UPDATE orders SET status = 'failed', reason = t.reason, version = version + 1
      FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS uuid[]), CAST(:reasons AS text[])) AS t(id, tenant_id, reason)
     WHERE orders.id = t.id AND orders.tenant_id = t.tenant_id AND status = 'accepted'
 RETURNING orders.id, orders.tenant_id, orders.reason, version
    """
)


def fail_if_accepted(tx: Connection, reasons: Mapping[tuple[UUID, UUID], str]) -> None:
    """These orders, by tenant and id, if still undecided, are `failed` for the reason given, and `order.failed` is
    published.
    """
    if not reasons:
        return
    tenants, ids = (list(column) for column in zip(*reasons, strict=True))
    failed = tx.execute(_FAIL, {"ids": ids, "tenants": tenants, "reasons": list(reasons.values())}).all()
    publish(
        tx,
        [
            Occurrence(tenant_id, order_id, version, OrderFailed(order_id=order_id, reason=reason))
            for order_id, tenant_id, reason, version in failed
        ],
    )


def request_cancel(
    tx: Connection,
    tenant_id: UUID,
    order_id: UUID,
    trace_context: str | None = None,
    seen: Collection[int] | None = None,
) -> NewJob:
    """A job is enqueued that frees what the order holds and cancels it; an undecided order is decided first.

    Raises NotFound, VersionConflict when it is at no version that was `seen`, or OrderNotCancellable when it was
    rejected, has failed, or is closed.
    """
    status = _lock_status(tx, tenant_id, order_id, seen)
    if status not in {"accepted", "confirmed"}:
        raise OrderNotCancellable(state=status)
    return _enqueue_for(tx, ReleaseInventory(order_id), tenant_id, order_id, trace_context)


def request_completion(
    tx: Connection,
    tenant_id: UUID,
    order_id: UUID,
    trace_context: str | None = None,
    seen: Collection[int] | None = None,
) -> NewJob:
    """A job is enqueued that takes what the order holds off the shelf and completes it.

    Raises NotFound, VersionConflict when it is at no version that was `seen`, or InvalidState unless the order is
    confirmed.
    """
    status = _lock_status(tx, tenant_id, order_id, seen)
    if status != "confirmed":
        raise InvalidState(resource="The order", state=status, verb="completed")
    return _enqueue_for(tx, ShipInventory(order_id), tenant_id, order_id, trace_context)


def _lock_status(tx: Connection, tenant_id: UUID, order_id: UUID, seen: Collection[int] | None) -> str:
    found = select(orders.c.status, orders.c.version).where(orders.c.tenant_id == tenant_id, orders.c.id == order_id)
    order = tx.execute(found.with_for_update()).first()
    if order is None:
        raise NotFound(resource="Order")
    check_version("The order", order.version, seen)
    status: str = order.status
    return status


def _enqueue_for(
    tx: Connection, args: ReleaseInventory | ShipInventory, tenant_id: UUID, order_id: UUID, trace_context: str | None
) -> NewJob:
    job = new_job(args, tenant_id=tenant_id, order_id=order_id, trace_context=trace_context)
    enqueue(tx, [job])
    return job
