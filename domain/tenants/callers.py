"""Who a request is from, whatever proved it."""

from uuid import UUID

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """Who a key or a token speaks for. `name` is the audit log's actor: key:<id> or user:<id>.

    He has `requests_per_minute` by the plan of his tenant.
    """

    tenant_id: UUID
    name: str
    permissions: frozenset[str]
    requests_per_minute: int
    role: str | None = None  # of a person, as are the next two; a key has none
    user_id: UUID | None = None
    family: UUID | None = None  # of refresh tokens: his log-in
