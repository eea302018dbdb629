"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by creation time and partition the big tables."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7. Its order is the order of creation in one process, never the order of commits."""
    return uuid7()
