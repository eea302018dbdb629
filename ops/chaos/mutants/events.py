"""Seeded bugs of what is published: less than has happened."""

from collections.abc import Sequence
from typing import Any

from domain.events import Occurrence, publish
from ops.chaos.mutants.graft import imported, mutant, replace

_TOLD = "what happened is told once"


def _keep_quiet(*types: str) -> None:
    def publish_the_rest(tx: Any, occurrences: Sequence[Occurrence]) -> None:
        publish(tx, [one for one in occurrences if one.event.type not in types])

    for module in ("domain.inventory.reservations", "domain.reports.reports"):
        replace(imported(module), "publish", publish_the_rest)


@mutant(_TOLD)
def creations_are_not_told() -> None:
    """That an order was taken in is not published."""
    _keep_quiet("order.created")


@mutant(_TOLD)
def ends_are_not_told() -> None:
    """That an order was cancelled or completed is not published."""
    _keep_quiet("order.cancelled", "order.completed")


@mutant(_TOLD)
def reports_are_not_told() -> None:
    """That a report is there is not published."""
    _keep_quiet("report.completed")
