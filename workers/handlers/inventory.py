"""The inventory's kinds, in bulk: a hot SKU costs one lock and one commit per bundle, not per order."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.inventory.reservations import UNDECIDED, release, reserve, ship
from domain.job_kinds import ReleaseInventory, ReserveInventory, ShipInventory
from workers.context import BundleContext, BundleJob
from workers.registry import handles_bulk
from workers.tally import count_decided

Args = ReserveInventory | ReleaseInventory | ShipInventory
Settle = Callable[
    [Connection, Mapping[UUID, UUID], Mapping[UUID, UUID], Mapping[UUID, dict[str, str] | None]],
    dict[UUID, dict[str, Any]],
]


@handles_bulk(ReserveInventory)
def reserve_inventory(bundle: BundleContext[ReserveInventory]) -> None:
    """Out of stock is a result, not a failure: the order is rejected, the job has succeeded."""
    _run(bundle, reserve)
    count_decided(outcome.job for outcome in bundle.outcomes)


@handles_bulk(ReleaseInventory)
def release_inventory(bundle: BundleContext[ReleaseInventory]) -> None:
    """A cancel may overtake the reservation: then it waits for it, a second at a time."""
    _run(bundle, release)


@handles_bulk(ShipInventory)
def ship_inventory(bundle: BundleContext[ShipInventory]) -> None:
    _run(bundle, ship)


def _run(bundle: BundleContext[Any], settle_stock: Settle) -> None:
    with bundle.transaction() as (tx, jobs):
        job_of = {mate.args.order_id: mate.id for mate in jobs}
        tenant_of = {mate.args.order_id: mate.job.tenant_id for mate in jobs}
        if any(tenant_of[mate.args.order_id] != mate.job.tenant_id for mate in jobs):
            raise ValueError("two tenants name one order")  # the bundle is split, and the wrong one dies by itself
        trace_of = {mate.args.order_id: mate.job.trace_context for mate in jobs}
        results = settle_stock(tx, job_of, tenant_of, trace_of) if jobs else {}
        for mate in jobs:
            _conclude(mate, results.get(mate.args.order_id))


def _conclude(mate: BundleJob[Any], result: dict[str, Any] | None) -> None:
    if result is None:
        mate.fail("there is no such order")
    elif result["code"] == UNDECIDED:
        mate.snooze(1.0, "the order is not decided yet")
    else:
        mate.succeed(result)
