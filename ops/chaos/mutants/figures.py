"""Seeded bugs of what is reckoned and reported."""

from collections.abc import Sequence
from typing import Any

from ops.chaos.mutants.graft import imported, mutant, replace


@mutant("an order costs what was ordered")
def everything_is_free() -> None:
    """The total of an order is nothing."""
    replace(imported("domain.orders.intake"), "_total", lambda *_: 0)


@mutant("reports are whole and right")
def reports_mix_up_their_rows() -> None:
    """In a report each order has the address and the status of the one before it."""
    reports = imported("workers.handlers.reports")
    cells, former = reports._cells, list[Any]()

    def cells_of_the_former(order: Any) -> Sequence[object]:
        former.append(order)
        return [order.id, *cells(former[max(-2, -len(former))])[1:]]

    replace(reports, "_cells", cells_of_the_former)
