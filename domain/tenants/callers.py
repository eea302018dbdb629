"""Who a request is from, whatever proved it."""

from uuid import UUID

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """Who a key or a token speaks for. `name` is the audit log's actor: key:<id> or user:<id>."""

    tenant_id: UUID
    name: str
    permissions: frozenset[str]
    plan: str = "basic"
    role: str | None = None  # of a person; a key has none
