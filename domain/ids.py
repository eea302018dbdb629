"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by creation time and partition the big tables."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7. Its order is the order of creation in one process, never the order of commits."""
    return uuid7()


def made_at(id_: UUID) -> datetime:
    """When a UUIDv7 was made, by the clock of who made it: its first 48 bits are milliseconds (RFC 9562, 5.7)."""
    return datetime.fromtimestamp((id_.int >> 80) / 1_000, UTC)
