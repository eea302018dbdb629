"""Seeded bugs of the stock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from domain.inventory import reservations, stock
from domain.inventory.allocation_rules import Allocation, Demand, allocate
from domain.inventory.stock import Movement
from domain.jobs.outbox import columns
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite
from workers.context import BundleJob

_READ = text("SELECT on_hand, reserved FROM stock WHERE tenant_id = :tenant_id AND sku = :sku")
_WRITE = text("UPDATE stock SET on_hand = :on_hand, reserved = :reserved WHERE tenant_id = :tenant_id AND sku = :sku")


@mutant("what is there is sold")
def shelves_seem_empty() -> None:
    """Every third order of a bundle finds nothing, whatever there is."""

    def allocate_to_some(free: Any, demands: Sequence[Demand]) -> list[Allocation]:
        made = allocate(free, demands)
        for place in range(2, len(made), 3):
            made[place] = Allocation(made[place].order_id, next(iter(demands[place].wanted))[1])
        return made

    replace(reservations, "allocate", allocate_to_some)


@mutant("stock is conserved")
def stock_is_read_then_written() -> None:
    """Counters are read, reckoned with and written back, under no lock: one of two at once is lost."""
    rewrite("domain.inventory.stock", "_LOCK", "FOR NO KEY UPDATE OF s", "")

    def move(tx: Connection, movements: Sequence[Movement]) -> None:
        for one in sorted(movements, key=lambda one: (one.tenant_id, one.sku)):
            key = {"tenant_id": one.tenant_id, "sku": one.sku}
            on_hand, reserved = tx.execute(_READ, key).one()
            counted = {"on_hand": on_hand + one.on_hand_delta, "reserved": reserved + one.reserved_delta}
            tx.execute(_WRITE, {**key, **counted})
        if movements:
            tx.execute(stock._RECORD, columns(movements))

    replace(stock, "move_stock", move)
    replace(reservations, "move_stock", move)


@mutant("an order gives back what it took", "stock is conserved")
def released_again() -> None:
    """A release and a shipment do not ask whether the order still holds anything: the second frees it again."""
    rewrite("domain.inventory.reservations", "_END_HOLDS", " AND state = 'held'", "")
    end = reservations._end

    def end_again(*what: Any, ends: set[str], **how: Any) -> Any:
        return end(*what, ends=ends | {"cancelled", "completed"}, **how)

    replace(reservations, "_end", end_again)


@mutant("an order takes all it asked for, or nothing", "invariants")
def part_of_an_order_is_taken() -> None:
    """Where one line of an order cannot be served, the others are taken all the same."""
    take = reservations._take

    def take_the_first(tx: Connection, served: Sequence[Any], job_of: Any) -> None:
        take(tx, [type(one)(one.order_id, dict(list(one.wanted.items())[:1])) for one in served], job_of)

    replace(reservations, "_take", take_the_first)


@mutant("who asked for an end has it", faults=["relays-stop", "workers-die"])
def overtaking_cancel_is_forgotten() -> None:
    """A cancel that overtakes the reservation counts as done, and the order is confirmed after it."""

    def conclude(mate: BundleJob[Any], result: dict[str, Any] | None) -> None:
        if result is None:
            mate.fail("there is no such order")
        else:
            mate.succeed(result)

    replace(imported("workers.handlers.inventory"), "_conclude", conclude)
