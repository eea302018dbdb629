"""Log-ins: five tries for an address, whether it is anybody's or not; then none for a quarter of an hour.

A try counts as failed before the password is looked at, and a success takes that back: so many at once are no more than
five either. Failures are counted by address and not by account: a stranger learns from a lock only what he did himself.
"""

import hashlib
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.errors import AccountLocked, LogInRefused, TenantSuspended
from domain.tenants.permission_rules import permissions_of_role
from domain.tenants.plan_rules import requests_per_minute

MOST_FAILURES = 5


class Person(msgspec.Struct, frozen=True):
    """Somebody who may come in, with what he may do as it is now."""

    id: UUID
    tenant_id: UUID
    email: str
    role: str
    permissions: frozenset[str]
    requests_per_minute: int


class Door(msgspec.Struct, frozen=True):
    """Where somebody knocks: the tenant he names, and the host he called, which may be a tenant's."""

    tenant_id: UUID | None = None
    host: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """Who a log-in would be, if the password is his."""

    person: Person
    password_hash: str
    is_suspended: bool  # his tenant


class Try(msgspec.Struct, frozen=True):
    """A log-in that counts as failed: how many have now failed in a row, and the transaction that counted it."""

    failures: int
    counted_in: str


# What is as old as a lock is long counts no more: neither failures nor the lock itself.
_COUNT_TRY = text(
    f"""
    INSERT INTO login_failures AS f (address_hash) VALUES (:hash)
        ON CONFLICT (address_hash) DO UPDATE
       SET last_at = clock_timestamp(),
           failures = CASE WHEN f.last_at < clock_timestamp() - interval '15 minutes' THEN 1 ELSE f.failures + 1 END,
           locked_until = CASE WHEN f.failures + 1 >= {MOST_FAILURES}
                                AND f.last_at >= clock_timestamp() - interval '15 minutes'
                               THEN clock_timestamp() + interval '15 minutes' END
     WHERE f.locked_until IS NULL OR f.locked_until <= clock_timestamp()
 RETURNING failures, CAST(pg_current_xact_id() AS text) AS counted_in
    """  # noqa: S608  # a number of ours
)
# No more are counted once it is locked: without this one there would be no lock. Only what was counted is taken back: a
# commit that nobody answered may not have happened, and the others are somebody's failures.
_TAKE_BACK = text(
    """
    UPDATE login_failures SET failures = greatest(failures - 1, 0), locked_until = NULL
     WHERE address_hash = :hash AND pg_xact_status(CAST(:counted_in AS xid8)) = 'committed'
    """
)
_FORGET = text("DELETE FROM login_failures WHERE address_hash = :hash")


def count_try(tx: Connection, email: str) -> Try:
    """This log-in with this address, which has failed until it succeeds. Raises AccountLocked."""
    row = tx.execute(_COUNT_TRY, {"hash": _hash(email)}).first()
    if row is None:
        raise AccountLocked
    return Try(row.failures, row.counted_in)


def take_back_try(tx: Connection, email: str, counted: Try) -> None:
    """If this try was counted, it was none: its password was not looked at, or was right and opened nothing."""
    tx.execute(_TAKE_BACK, {"hash": _hash(email), "counted_in": counted.counted_in})


def forget_failures(tx: Connection, email: str) -> None:
    """The next try is the first one again, and a lock is gone."""
    tx.execute(_FORGET, {"hash": _hash(email)})


_PERSON = """
    SELECT u.id, u.tenant_id, u.email, u.role, u.permissions, u.password_hash,
           t.plan, t.settings, t.status AS tenant_status
      FROM users AS u JOIN tenants AS t ON t.id = u.tenant_id
     WHERE u.status = 'active'
    """
# The tenant that was named, else the one whose host it is, else any.
_BY_ADDRESS = text(
    f"""{_PERSON}
       AND u.email = :email
       AND u.tenant_id = coalesce(CAST(:tenant_id AS uuid),
                                  (SELECT id FROM tenants WHERE domain = :host),
                                  (SELECT id FROM tenants WHERE subdomain = split_part(:host, '.', 1)),
                                  u.tenant_id)
    """  # noqa: S608  # constants of ours
)
_BY_FAMILY = text(
    f"""{_PERSON}
       AND u.tenant_id = :tenant_id AND u.id = :user_id
       AND EXISTS (SELECT FROM refresh_tokens AS r
                    WHERE r.family = :family AND r.user_id = u.id AND r.expires_at > clock_timestamp())
       AND NOT EXISTS (SELECT FROM refresh_tokens AS r WHERE r.family = :family AND r.revoked_at IS NOT NULL)
    """  # noqa: S608  # constants of ours
)


def find_candidate(tx: Connection, email: str, door: Door) -> Candidate | None:
    """The active user of this address in the tenant of this door. None when there is none, or without one several."""
    rows = tx.execute(_BY_ADDRESS, {"email": email, "tenant_id": door.tenant_id, "host": door.host.lower()}).all()
    if len(rows) != 1:
        return None
    return Candidate(_person(rows[0]), rows[0].password_hash, rows[0].tenant_status != "active")


def find_person(tx: Connection, tenant_id: UUID, user_id: UUID, family: UUID) -> Person | None:
    """Who has this log-in; None when it is over, or he is disabled or gone. Raises TenantSuspended."""
    row = tx.execute(_BY_FAMILY, {"tenant_id": tenant_id, "user_id": user_id, "family": family}).first()
    if row is None:
        return None
    if row.tenant_status != "active":
        raise TenantSuspended
    return _person(row)


_LOG_IN = text(
    """
    UPDATE users SET last_login_at = clock_timestamp(), password_hash = :new_hash
     WHERE tenant_id = :tenant_id AND id = :id AND status = 'active' AND password_hash = :password_hash
    """
)


def log_in_if_unchanged(tx: Connection, candidate: Candidate, new_hash: str | None) -> None:
    """He is in, and his failures are forgotten; `new_hash`, if any, takes the place of the outdated one.

    Raises LogInRefused when he was disabled, or his password changed, after it was looked at.
    """
    person, hashed = candidate.person, candidate.password_hash
    values = {"id": person.id, "tenant_id": person.tenant_id, "password_hash": hashed, "new_hash": new_hash or hashed}
    if not tx.execute(_LOG_IN, values).rowcount:
        raise LogInRefused
    forget_failures(tx, person.email)


def _person(row: Row[Any]) -> Person:
    permissions = permissions_of_role(row.role, row.permissions)
    rate = requests_per_minute(row.plan, row.settings)
    return Person(row.id, row.tenant_id, row.email, row.role, permissions, rate)


def _hash(email: str) -> bytes:
    return hashlib.sha256(email.encode()).digest()
