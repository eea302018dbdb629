"""What each tenant is configured with: set by operators, sealed if they say so, read by whoever acts for the tenant."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.audit import record_act
from domain.errors import NotFound
from domain.tables.tenants import system_config
from domain.tenants.config_rules import Value
from domain.vault import seal_text, unseal_text


def set_config(  # what, for whom, by whom
    tx: Connection, key: bytes, tenant_id: UUID, name: str, value: Value, by: str, *, encrypted: bool = False
) -> None:
    """The tenant has this value from now on. `encrypted`: it stands sealed under `key` in the table, and in no log."""
    stored = seal_text(key, msgspec.json.encode(value).decode(), _place(tenant_id, name)) if encrypted else value
    row = {"value": stored, "is_encrypted": encrypted, "updated_at": func.clock_timestamp()}
    insert = upsert(system_config).values(tenant_id=tenant_id, key=name, **row)
    tx.execute(insert.on_conflict_do_update(index_elements=["tenant_id", "key"], set_=row))
    said = None if encrypted else value
    record_act(tx, tenant_id, by, "config.set", name, None, {"value": said, "encrypted": encrypted})


def unset_config(tx: Connection, tenant_id: UUID, name: str, by: str) -> None:
    """The default holds again. Raises NotFound when there was nothing."""
    c = system_config.c
    if not tx.execute(delete(system_config).where(c.tenant_id == tenant_id, c.key == name)).rowcount:
        raise NotFound(resource=f"A value of {name}")
    record_act(tx, tenant_id, by, "config.unset", name)


def list_config(tx: Connection, tenant_id: UUID) -> Sequence[Row[Any]]:
    """What is set, by key; sealed values as they are stored."""
    c = system_config.c
    return tx.execute(select(system_config).where(c.tenant_id == tenant_id).order_by(c.key)).all()


def read_config(tx: Connection, key: bytes, tenant_id: UUID, name: str) -> Value | None:
    """The tenant's value in the clear; None when none is set."""
    c = system_config.c
    row = tx.execute(select(c.value, c.is_encrypted).where(c.tenant_id == tenant_id, c.key == name)).first()
    if row is None:
        return None
    if row.is_encrypted:
        value: Value = msgspec.json.decode(unseal_text(key, row.value, _place(tenant_id, name)))
        return value
    plain: Value = row.value
    return plain


def _place(tenant_id: UUID, name: str) -> str:
    return f"system_config.value:{tenant_id}:{name}"
