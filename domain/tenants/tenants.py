"""Tenants: made, found, given a plan, suspended and let on again. Each change is an act in the audit log."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.audit import record_act
from domain.errors import DuplicateResource, InvalidState, NotFound
from domain.ids import new_id
from domain.tables.tenants import tenants
from domain.tenants.plan_rules import REQUESTS_PER_MINUTE

#: Whose everything is as long as nobody speaks of tenants.
DEFAULT = "default"


class NewTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant to be. `subdomain` and `domain` are the hosts that name it."""

    name: str
    plan: str = "basic"
    subdomain: str | None = None
    domain: str | None = None


def ensure_tenant(tx: Connection, name: str, requests_per_minute: int | None = None) -> UUID:
    """The id of the tenant of this name, made now if there is none; with so many requests a minute, if that is said."""
    settings = {} if requests_per_minute is None else {REQUESTS_PER_MINUTE: requests_per_minute}
    tx.execute(upsert(tenants).values(id=new_id(), name=name, settings=settings).on_conflict_do_nothing())
    return find_tenant(tx, name)


def find_or_begin(tx: Connection, name: str) -> UUID:
    """As `find_tenant`, but that the one called `default` is there as soon as it is asked for."""
    return ensure_tenant(tx, name) if name == DEFAULT else find_tenant(tx, name)


def find_tenant(tx: Connection, name: str) -> UUID:
    """The id of the tenant of this name. Raises NotFound."""
    found: UUID | None = tx.execute(select(tenants.c.id).where(tenants.c.name == name)).scalar()
    if found is None:
        raise NotFound(resource=f"Tenant {name}")
    return found


def list_tenants(tx: Connection) -> Sequence[Row[Any]]:
    """Every tenant, by name."""
    return tx.execute(select(tenants).order_by(tenants.c.name)).all()


def create_tenant(tx: Connection, tenant: NewTenant, by: str) -> UUID:
    """The id of the new tenant. Raises DuplicateResource when its name, subdomain or domain is taken."""
    values = msgspec.structs.asdict(tenant)
    made = tx.execute(upsert(tenants).values(id=new_id(), **values).on_conflict_do_nothing().returning(tenants.c.id))
    tenant_id: UUID | None = made.scalar()
    if tenant_id is None:
        taken = ", ".join(value for name, value in values.items() if value and name != "plan")
        raise DuplicateResource(resource="A tenant of", key=taken)
    record_act(tx, tenant_id, by, "tenant.created", str(tenant_id), None, values)
    return tenant_id


_CHANGE = text(
    """
    UPDATE tenants SET plan = coalesce(:plan, plan), settings = jsonb_strip_nulls(settings || CAST(:settings AS jsonb)),
           updated_at = clock_timestamp() WHERE id = :id
    """
)


def change_tenant(
    tx: Connection, tenant_id: UUID, by: str, *, plan: str | None = None, settings: Mapping[str, object]
) -> None:
    """Its plan is this one, and these of its settings are so; what is not named stays, and what is None goes."""
    said = msgspec.json.encode(settings).decode()
    tx.execute(_CHANGE, {"id": tenant_id, "plan": plan, "settings": said})
    record_act(tx, tenant_id, by, "tenant.changed", str(tenant_id), None, {"plan": plan, "settings": dict(settings)})


def suspend_if_active(tx: Connection, tenant_id: UUID, by: str, reason: str | None = None) -> None:
    """Its keys and people are turned away within seconds, its jobs wait; what runs, runs on. Raises InvalidState."""
    _move(tx, tenant_id, "active", "suspended", by, reason)


def resume_if_suspended(tx: Connection, tenant_id: UUID, by: str, reason: str | None = None) -> None:
    """Its keys and people come in again, and its jobs go on. Raises InvalidState."""
    _move(tx, tenant_id, "suspended", "active", by, reason)


def _move(tx: Connection, tenant_id: UUID, from_: str, to: str, by: str, reason: str | None) -> None:
    moved = tx.execute(
        tenants.update()
        .where(tenants.c.id == tenant_id, tenants.c.status == from_)
        .values(status=to, updated_at=func.clock_timestamp())
    )
    if not moved.rowcount:
        raise InvalidState(resource="The tenant", state=to, verb=f"made {to}")
    record_act(tx, tenant_id, by, f"tenant.{'suspended' if to == 'suspended' else 'resumed'}", str(tenant_id), reason)
