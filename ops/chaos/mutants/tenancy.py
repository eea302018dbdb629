"""Seeded bugs of tenancy: what is one tenant's is read by another."""

from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.tables.orders import orders
from ops.chaos.mutants.graft import imported, mutant, replace

_SEEN = "callers see what they were told"


@mutant(_SEEN)
def lists_of_every_tenant() -> None:
    """A list of orders or of jobs has everybody's."""

    def list_any_orders(tx: Any, _tenant_id: UUID, stretch: Any, **_: Any) -> Any:
        return tx.execute(stretch.of(select(orders), orders.c.created_at, orders.c.id)).all()

    replace(imported("api.routes.orders"), "list_orders", list_any_orders)
    _forget_the_tenant("list_jobs")


@mutant(_SEEN)
def any_tenant_polls() -> None:
    """A job is read by its id alone, whoever asks."""
    _forget_the_tenant("get_job")


def _forget_the_tenant(name: str) -> None:
    """In the routes of jobs, this function hears of no tenant."""
    routes = imported("api.routes.jobs")
    of_tenant = getattr(routes, name)
    replace(routes, name, lambda tx, _tenant_id, *words, **named: of_tenant(tx, None, *words, **named))
