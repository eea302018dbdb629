"""Seeded bugs of dead letters and their replays."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, text

from domain.jobs import dead_letters
from domain.tables.jobs import dead_letters as letters_table
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite

_FAILED = text("SELECT id FROM orders WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'failed'")
_DONE = "what an operator did is done"


@mutant("nothing comes from nowhere", faults=["replay-storm"])
def each_replay_is_another_job() -> None:
    """A letter that was replayed before is replayed once more, as a job of its own."""

    def lock_any(tx: Connection, dead_letter_id: UUID) -> Row[Any]:
        found = select(letters_table).where(letters_table.c.id == dead_letter_id).with_for_update()
        return tx.execute(found).one()

    replace(dead_letters, "_lock_open", lock_any)


@mutant(_DONE, faults=["hang"])
def edited_letters_lead_to_nothing() -> None:
    """A letter counts as edited, and no job is made."""
    replace(dead_letters, "enqueue", lambda *_: {})


@mutant(_DONE)
def failed_orders_stay_failed() -> None:
    """A reservation leaves a failed order alone, also when it is replayed; one in ten gives up at first."""
    rewrite(
        "domain.inventory.reservations",
        "_LOCK_ORDERS",
        "status,",
        "CASE status WHEN 'failed' THEN 'unfailed' ELSE status END AS status,",
    )
    inventory = imported("workers.handlers.inventory")
    reserve = inventory.reserve

    def reserve_for_most(tx: Connection, job_of: Mapping[UUID, UUID], *more: Any) -> Any:
        failed = set(tx.execute(_FAILED, {"ids": list(job_of)}).scalars())
        kept = {order_id: job_id for order_id, job_id in job_of.items() if order_id in failed or order_id.int % 10}
        return reserve(tx, kept, *more)

    replace(inventory, "reserve", reserve_for_most)
