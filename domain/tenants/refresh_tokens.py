"""Refresh tokens: each is good once, and is replaced by the next of its family until the log-in is over.

A log-in starts a family, whose tokens all expire when it does. A family is dead as soon as one of them is revoked:
so a token that is made while that happens is dead too, whoever commits first. Only hashes are stored (SHA-256 of 256
random bits).
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.ids import new_id

#: So that scanners of code know one when they see it.
PREFIX = "longshore_refresh_"


class RefreshToken(msgspec.Struct, frozen=True):
    """A token in the clear, which is shown this once."""

    token: str
    tenant_id: UUID
    user_id: UUID
    family: UUID
    expires_at: datetime


class Reuse(msgspec.Struct, frozen=True):
    """A token that had been used already: it is in two hands, and nobody knows whose."""

    tenant_id: UUID
    user_id: UUID
    family: UUID


_ADD = text(
    """
    INSERT INTO refresh_tokens (token_hash, family, tenant_id, user_id, expires_at)
    VALUES (:hash, :family, :tenant_id, :user_id, coalesce(:expires_at, clock_timestamp() + :lifetime))
 RETURNING expires_at
    """
)
_USE = text(
    """
    UPDATE refresh_tokens AS r SET used_at = clock_timestamp()
     WHERE token_hash = :hash AND used_at IS NULL AND expires_at > clock_timestamp()
       AND NOT EXISTS (SELECT FROM refresh_tokens AS f WHERE f.family = r.family AND f.revoked_at IS NOT NULL)
 RETURNING tenant_id, user_id, family, expires_at
    """
)
_WAS_USED = text(
    """
    SELECT tenant_id, user_id, family FROM refresh_tokens
     WHERE token_hash = :hash AND used_at IS NOT NULL AND revoked_at IS NULL AND expires_at > clock_timestamp()
    """
)


def start_family(tx: Connection, tenant_id: UUID, user_id: UUID, lifetime: timedelta) -> RefreshToken:
    """The first token of a new log-in, which is over after `lifetime`."""
    return _add(tx, tenant_id, user_id, new_id(), lifetime=lifetime)


def replace_if_unused(tx: Connection, token: str) -> RefreshToken | Reuse | None:
    """The next token of the family; this one is used up. None = expired, revoked or never made. Reuse = it was used up
    before, and the family is over: the caller has to commit that.

    Of many at once with the same token one gets the next, and the others end the family.
    """
    used = tx.execute(_USE, {"hash": _hash(token)}).first()
    if used is not None:
        return _add(tx, used.tenant_id, used.user_id, used.family, expires_at=used.expires_at)
    again = tx.execute(_WAS_USED, {"hash": _hash(token)}).first()
    if again is None:
        return None
    reuse = Reuse(again.tenant_id, again.user_id, again.family)
    return reuse if end_family(tx, reuse.tenant_id, reuse.family) else None


_REVOKE = "UPDATE refresh_tokens SET revoked_at = clock_timestamp() WHERE tenant_id = :tenant_id AND revoked_at IS NULL"
_END = text(f"{_REVOKE} AND family = :family")
_END_ALL = text(f"{_REVOKE} AND user_id = :user_id")


def end_family(tx: Connection, tenant_id: UUID, family: UUID) -> bool:
    """The log-in is over: no token of it is good any more, the access tokens within seconds. False = it was already."""
    ended = tx.execute(_END, {"tenant_id": tenant_id, "family": family})
    return ended.rowcount > 0


def end_families_of(tx: Connection, tenant_id: UUID, user_id: UUID) -> None:
    """All log-ins of this person are over."""
    tx.execute(_END_ALL, {"tenant_id": tenant_id, "user_id": user_id})


def _add(
    tx: Connection,
    tenant_id: UUID,
    user_id: UUID,
    family: UUID,
    *,
    lifetime: timedelta | None = None,
    expires_at: datetime | None = None,
) -> RefreshToken:
    token = PREFIX + secrets.token_urlsafe(32)
    ids = {"tenant_id": tenant_id, "user_id": user_id, "family": family}
    made = tx.execute(_ADD, {**ids, "hash": _hash(token), "lifetime": lifetime, "expires_at": expires_at})
    return RefreshToken(token=token, expires_at=made.scalar_one(), **ids)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
