"""Dead letters of the tenant, for reading. Only keys with the scope `admin`; operators replay with the CLI."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from sqlalchemy import Row

from api.envelope import Page, Success
from api.pages import Listing
from api.tenant_database import TenantDatabase
from domain.jobs.dead_letters import DeadLetterFilter, find_dead_letters, get_dead_letter
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import DEAD_LETTERS_READ

Kind = Annotated[str | None, QueryParameter(name="kind", required=False, max_length=100)]
Resolved = Annotated[bool | None, QueryParameter(name="resolved", required=False)]


class DeadLetterView(Struct, rename="camel"):
    """One job that gave up. `cause`: permanent, attempts or crashes; equal faults share a `fingerprint`."""

    id: UUID
    job_id: UUID
    kind: str
    fingerprint: str
    cause: str
    attempts: int
    error_class: str | None
    died_at: datetime
    resolution: str | None
    resolved_at: datetime | None
    replay_job_id: UUID | None


@get("/", summary="List dead letters", permission=DEAD_LETTERS_READ, sync_to_thread=True)
def get_dead_letters(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
    kind: Kind = None,
    resolved: Resolved = None,
) -> Response[Page[DeadLetterView]]:
    """The tenant's dead letters."""
    stretch = listing.stretch()
    wanted = DeadLetterFilter(tenant_id=caller.tenant_id, kind=kind, resolved=resolved)
    with database.connect() as connection:
        rows = find_dead_letters(connection, wanted, stretch)
    return listing.page(rows, _show)


@get("/{dead_letter_id:str}", summary="Read a dead letter", permission=DEAD_LETTERS_READ, sync_to_thread=True)
def get_one_dead_letter(
    dead_letter_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Success[DeadLetterView]:
    """One dead letter."""
    with database.connect() as connection:
        return Success(data=_show(get_dead_letter(connection, dead_letter_id, caller.tenant_id)))


def _show(row: Row[Any]) -> DeadLetterView:
    error = row.snapshot.get("error") or {}
    return DeadLetterView(
        id=row.id,
        job_id=row.job_id,
        kind=row.kind,
        fingerprint=row.fingerprint,
        cause=row.cause,
        attempts=row.snapshot["attempts"],
        error_class=error.get("class"),
        died_at=row.died_at,
        resolution=row.resolution,
        resolved_at=row.resolved_at,
        replay_job_id=row.replay_job_id,
    )


router = Router(
    "/admin/dead-letters",
    route_handlers=[get_dead_letters, get_one_dead_letter],
    tags=["Dead letters"],
)
