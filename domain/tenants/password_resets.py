"""A password that was forgotten: a token that is mailed, opens once, and for half an hour. Only its hash is stored.

It is made by the job that mails it, so that it never stands among the arguments of a job.
"""

import hashlib
import secrets
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.tenants.log_ins import forget_failures
from domain.tenants.refresh_tokens import end_families_of

LIFETIME_MINUTES = 30

_ADD = text(
    """
    INSERT INTO password_resets (token_hash, tenant_id, user_id, expires_at)
    VALUES (:hash, :tenant_id, :user_id, clock_timestamp() + make_interval(mins => :minutes))
    """
)


def make_reset(tx: Connection, tenant_id: UUID, user_id: UUID) -> str:
    """A new token in the clear: 256 random bits."""
    token = secrets.token_urlsafe(32)
    ids = {"tenant_id": tenant_id, "user_id": user_id}
    tx.execute(_ADD, {**ids, "hash": _hash(token), "minutes": LIFETIME_MINUTES})
    return token


class Reset(msgspec.Struct, frozen=True):
    """Whose password was set."""

    tenant_id: UUID
    user_id: UUID


# The person is locked before any token: two tokens of one person, used at once, would wait for each other.
_LOCK = text(
    """
    SELECT u.tenant_id, u.id, u.email
      FROM password_resets AS r JOIN users AS u ON u.tenant_id = r.tenant_id AND u.id = r.user_id
     WHERE r.token_hash = :hash AND r.expires_at > clock_timestamp() AND u.status = 'active' FOR UPDATE OF u
    """
)
_USE = text("DELETE FROM password_resets WHERE token_hash = :hash")
_SET = text(
    """
    UPDATE users SET password_hash = :password_hash, version = version + 1, updated_at = clock_timestamp()
     WHERE tenant_id = :tenant_id AND id = :user_id
    """
)
_DROP = text("DELETE FROM password_resets WHERE tenant_id = :tenant_id AND user_id = :user_id")


def drop_resets_of(tx: Connection, tenant_id: UUID, user_id: UUID) -> None:
    """No token that was mailed to this person is good any more."""
    tx.execute(_DROP, {"tenant_id": tenant_id, "user_id": user_id})


def is_open(tx: Connection, token: str) -> bool:
    """Whether the token would do now: asked before the costly hash of a password that somebody may have made up."""
    return tx.execute(_LOCK, {"hash": _hash(token)}).first() is not None


def reset_if_open(tx: Connection, token: str, password_hash: str) -> Reset | None:
    """The password is set, all tokens of the person are gone, all his log-ins are over, and a lock is lifted.

    None when the token was used, has expired or never was. Of two at once one succeeds.
    """
    user = tx.execute(_LOCK, {"hash": _hash(token)}).first()
    if user is None or not tx.execute(_USE, {"hash": _hash(token)}).rowcount:
        return None
    ids = {"tenant_id": user.tenant_id, "user_id": user.id}
    tx.execute(_SET, {**ids, "password_hash": password_hash})
    drop_resets_of(tx, user.tenant_id, user.id)
    end_families_of(tx, user.tenant_id, user.id)
    forget_failures(tx, user.email)
    return Reset(user.tenant_id, user.id)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
