"""API keys in PostgreSQL: made, shown once, looked up by their public id."""

import hmac
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, text

from domain.errors import NotFound, TenantSuspended
from domain.tables.tenants import api_keys, tenants
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts, format_key, parse_key
from domain.tenants.permission_rules import permissions_of_scopes
from domain.tenants.plan_rules import requests_per_minute


def create_key(
    tx: Connection, tenant_id: UUID, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> str:
    """A new key in the clear: it is stored as a hash and never shown again."""
    key = format_key(os.urandom(6), os.urandom(32))
    parts = parse_key(key)
    if parts is None:
        raise AssertionError("a key that this module made does not parse")
    tx.execute(
        insert(api_keys).values(
            id=parts.id,
            tenant_id=tenant_id,
            name=name,
            secret_hash=parts.secret_hash,
            scopes=list(scopes),
            expires_at=expires_at,
        )
    )
    return key


_TOUCH = text(
    """
    UPDATE api_keys SET last_used_at = clock_timestamp()
     WHERE id = :id AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
    """
)


def find_caller(tx: Connection, parts: KeyParts) -> Caller | None:
    """Who this key speaks for; None when it is unknown, revoked or expired. Compares in constant time.

    Its use is noted at most once a minute, so that a busy key is no hot row. Raises TenantSuspended.
    """
    is_expired = (api_keys.c.expires_at <= func.clock_timestamp()).label("is_expired")
    query = select(api_keys, tenants.c.plan, tenants.c.settings, tenants.c.status, is_expired).join(tenants)
    row = tx.execute(query.where(api_keys.c.id == parts.id)).first()
    if row is None or not hmac.compare_digest(bytes(row.secret_hash), parts.secret_hash) or row.is_expired:
        return None
    if row.status != "active":
        raise TenantSuspended
    tx.execute(_TOUCH, {"id": row.id})
    rate = requests_per_minute(row.plan, row.settings)
    return Caller(row.tenant_id, f"key:{row.id}", permissions_of_scopes(row.scopes), rate)


def list_keys(tx: Connection) -> Sequence[Row[Any]]:
    """Every key with its tenant's name, without its hash."""
    shown = [column for column in api_keys.c if column.name != "secret_hash"]
    query: Select[Any] = select(*shown, tenants.c.name.label("tenant")).join(
        tenants, api_keys.c.tenant_id == tenants.c.id
    )
    return tx.execute(query.order_by(api_keys.c.created_at)).all()


def revoke_key(tx: Connection, key_id: str) -> None:
    """The key opens nothing any more, within seconds everywhere. Raises NotFound."""
    if not tx.execute(delete(api_keys).where(api_keys.c.id == key_id)).rowcount:
        raise NotFound(resource="API key")
