"""The people of a tenant: made, listed, changed, removed. Nobody lays hands on one whose role he may not give.

The last active owner stays: two who would remove each other at once wait for one another, and the second is refused.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from domain.errors import AboveYou, DuplicateResource, LastOwner, NotFound
from domain.ids import new_id
from domain.job_kinds import MailWelcome
from domain.jobs.outbox import enqueue, new_job
from domain.stretch import Stretch
from domain.tables.people import users
from domain.tenants.password_resets import drop_resets_of
from domain.tenants.refresh_tokens import end_families_of
from domain.versions import check_version

#: Of a person all but the hash of the password.
SHOWN = [column for column in users.c if column.name != "password_hash"]
CHANGEABLE = ("name", "role", "permissions", "status")


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """A person about to be made; `email` trimmed and in lower case."""

    email: str
    name: str
    password_hash: str
    role: str
    permissions: Sequence[str] = ()


def facts_of(row: Row[Any], names: Iterable[str] = CHANGEABLE) -> dict[str, Any]:
    """What the audit log is told of a person. It never forgets, so the address is not among it."""
    return {name: getattr(row, name) for name in names}


def facts_of_change(before: Row[Any], after: Row[Any]) -> dict[str, dict[str, Any]]:
    """What became otherwise, old and new, for the audit log; empty when nothing did."""
    changed = [name for name in CHANGEABLE if getattr(before, name) != getattr(after, name)]
    return {"old": facts_of(before, changed), "new": facts_of(after, changed)} if changed else {}


def normal_address(email: str) -> str:
    """The address as it is stored and compared."""
    return email.strip().lower()


def create_user(
    tx: Connection, tenant_id: UUID, new: NewUser, may_appoint: Collection[str], trace: str | None = None
) -> Row[Any]:
    """A new person, and the job that mails him a welcome.

    Raises AboveYou, and DuplicateResource for an address that the tenant has already.
    """
    _check(new.role, may_appoint)
    values = {**msgspec.structs.asdict(new), "permissions": sorted(set(new.permissions))}
    statement = insert(users).values(id=new_id(), tenant_id=tenant_id, **values)
    row = tx.execute(statement.on_conflict_do_nothing(index_elements=["tenant_id", "email"]).returning(*SHOWN)).first()
    if row is None:
        raise DuplicateResource(resource="User", key=new.email)
    enqueue(tx, [new_job(MailWelcome(row.id), tenant_id=tenant_id, trace_context=trace)])
    return row


def get_user(tx: Connection, tenant_id: UUID, user_id: UUID) -> Row[Any]:
    """One person. Raises NotFound, also for another tenant's."""
    return _found(tx.execute(select(*SHOWN).where(users.c.tenant_id == tenant_id, users.c.id == user_id)).first())


def find_user(tx: Connection, tenant_id: UUID, email: str) -> Row[Any]:
    """The person with this address. Raises NotFound."""
    return _found(tx.execute(select(*SHOWN).where(users.c.tenant_id == tenant_id, users.c.email == email)).first())


def list_users(tx: Connection, tenant_id: UUID, stretch: Stretch, *, before: int = 0) -> Sequence[Row[Any]]:
    """A stretch of the people by id, but the first `before` of them."""
    query = select(*SHOWN).where(users.c.tenant_id == tenant_id).offset(before)
    return tx.execute(stretch.of(query, users.c.id)).all()


def count_users(tx: Connection, tenant_id: UUID) -> int:
    """How many people the tenant has."""
    count = select(func.count()).select_from(users).where(users.c.tenant_id == tenant_id)
    return tx.execute(count).scalar_one()


def change_user(
    tx: Connection,
    tenant_id: UUID,
    user_id: UUID,
    wanted: Mapping[str, Any],
    may_appoint: Collection[str],
    seen: Collection[int] | None = None,
) -> tuple[Row[Any], Row[Any]]:
    """The person before and after; the same row twice when nothing changes. Who is disabled is logged out everywhere.

    `wanted` names some of CHANGEABLE. Raises NotFound, AboveYou for the old role or the new one, VersionConflict
    when he is at no version that was `seen`, LastOwner.
    """
    owners, before = _lock(tx, tenant_id, user_id)
    for role in (before.role, wanted.get("role", before.role)):
        _check(role, may_appoint)
    check_version("The user", before.version, seen)
    changes = {name: value for name, value in wanted.items() if getattr(before, name) != value}
    if not changes:
        return before, before
    stays_owner = changes.get("role", before.role) == "owner" and changes.get("status", before.status) == "active"
    if owners == [user_id] and not stays_owner:
        raise LastOwner
    after = tx.execute(
        update(users)
        .where(users.c.tenant_id == tenant_id, users.c.id == user_id)
        .values(**changes, version=users.c.version + 1, updated_at=func.clock_timestamp())
        .returning(*SHOWN)
    ).one()
    if after.status == "disabled":
        end_families_of(tx, tenant_id, user_id)
    return before, after


def set_password(tx: Connection, tenant_id: UUID, user_id: UUID, password_hash: str) -> None:
    """The person has this password, is logged out everywhere, and what was mailed to him resets it no more.

    Raises NotFound.
    """
    mine = (users.c.tenant_id == tenant_id, users.c.id == user_id)
    changes = {"password_hash": password_hash, "version": users.c.version + 1, "updated_at": func.clock_timestamp()}
    if not tx.execute(update(users).where(*mine).values(**changes)).rowcount:
        raise NotFound(resource="User")
    drop_resets_of(tx, tenant_id, user_id)
    end_families_of(tx, tenant_id, user_id)


def delete_user(
    tx: Connection, tenant_id: UUID, user_id: UUID, may_appoint: Collection[str], seen: Collection[int] | None = None
) -> Row[Any]:
    """The person is gone, and with him his log-ins; answers what he was.

    Raises NotFound, AboveYou, VersionConflict when he is at no version that was `seen`, LastOwner.
    """
    owners, row = _lock(tx, tenant_id, user_id)
    _check(row.role, may_appoint)
    check_version("The user", row.version, seen)
    if owners == [user_id]:
        raise LastOwner
    tx.execute(delete(users).where(users.c.tenant_id == tenant_id, users.c.id == user_id))
    return row


def _lock(tx: Connection, tenant_id: UUID, user_id: UUID) -> tuple[list[UUID], Row[Any]]:
    """The active owners and the person, locked: owners first and in order, or two would wait for each other."""
    c = users.c
    is_owner = (c.tenant_id == tenant_id, c.role == "owner", c.status == "active")
    owners = tx.execute(select(c.id).where(*is_owner).order_by(c.id).with_for_update()).scalars().all()
    mine = (c.tenant_id == tenant_id, c.id == user_id)
    return list(owners), _found(tx.execute(select(*SHOWN).where(*mine).with_for_update()).first())


def _found(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound(resource="User")
    return row


def _check(role: str, may_appoint: Collection[str]) -> None:
    if role not in may_appoint:
        raise AboveYou(role=role)
