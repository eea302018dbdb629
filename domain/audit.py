"""Who did what to whom, and why: one row for every act of an operator, in the transaction of the act.

The acts of a tenant are a chain, and so are those that concern no tenant: each carries the SHA-256 of itself and of the
hash before it, which the database reckons at the commit. Whoever changes, removes or slips in a row afterwards breaks
the chain, unless he reckons all that follows anew; against that keep the last hash elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, insert, select, text

from domain.ids import new_id
from domain.tables.audit import audit_log
from domain.tables.tenants import tenants

#: The chain of what concerns no tenant.
NOBODY = UUID(int=0)


class Chain(msgspec.Struct, frozen=True):
    """One chain as it stands: `hash` is its last. `broken_at`: the first position that does not follow, if any."""

    tenant_id: UUID | None
    length: int
    hash: bytes
    broken_at: int | None


class ActFilter(msgspec.Struct, frozen=True):
    """Which acts: all fields given must match."""

    tenant_id: UUID | None = None
    action: str | None = None
    subject: str | None = None


def record_act(
    tx: Connection,
    tenant_id: UUID | None,
    actor: str,
    action: str,
    subject: str,
    reason: str | None = None,
    detail: object = None,
) -> None:
    """The act stands in the audit log if and only if the caller's transaction commits."""
    row = {"id": new_id(), "tenant_id": tenant_id, "actor": actor, "action": action, "subject": subject}
    tx.execute(insert(audit_log).values(**row, reason=reason, detail=detail))


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What became otherwise, old and new, as the detail of an act; empty when nothing did."""
    changed = [name for name in after if before[name] != after[name]]
    told = {"old": {name: before[name] for name in changed}, "new": {name: after[name] for name in changed}}
    return told if changed else {}


def list_acts(tx: Connection, wanted: ActFilter, *, limit: int) -> Sequence[Row[Any]]:
    """Acts, newest first, each with the name of its `tenant`."""
    named = audit_log.outerjoin(tenants, tenants.c.id == audit_log.c.tenant_id)
    acts = select(audit_log, tenants.c.name.label("tenant")).select_from(named)
    query = acts.order_by(audit_log.c.id.desc()).limit(limit)
    given = ((name, getattr(wanted, name)) for name in wanted.__struct_fields__)
    return tx.execute(query.where(*(audit_log.c[name] == value for name, value in given if value is not None))).all()


# What is missing at the end is found by the chain's own length; a row that nobody chained has no position.
_VERIFY = text(
    f"""
    WITH acts AS (
        SELECT coalesce(a.tenant_id, '{NOBODY}') AS chain, a.position, a.hash,
               coalesce(lag(a.position) OVER chain, 0) AS before,
               longshore_hash_of_act(coalesce(lag(a.hash) OVER chain, ''), a) AS reckoned
          FROM audit_log AS a
        WINDOW chain AS (PARTITION BY coalesce(a.tenant_id, '{NOBODY}') ORDER BY a.position)),
    broken AS (
        SELECT chain, min(coalesce(position, 0)) AS at FROM acts
         WHERE position IS DISTINCT FROM before + 1 OR hash IS DISTINCT FROM reckoned GROUP BY chain),
    ends AS (SELECT DISTINCT ON (chain) chain, position, hash FROM acts ORDER BY chain, position DESC NULLS LAST)
    SELECT nullif(coalesce(c.tenant_id, e.chain), '{NOBODY}'), coalesce(c.length, 0), coalesce(c.hash, ''),
           coalesce(b.at, CASE WHEN (c.length, c.hash) IS DISTINCT FROM (coalesce(e.position, 0), coalesce(e.hash, ''))
                               THEN least(coalesce(e.position, 0), coalesce(c.length, 0)) + 1 END)
      FROM audit_chains AS c FULL JOIN ends AS e ON e.chain = c.tenant_id LEFT JOIN broken AS b
        ON b.chain = coalesce(c.tenant_id, e.chain)
     ORDER BY 1 NULLS FIRST
    """  # noqa: S608  # constants of ours
)


def verify_chains(tx: Connection) -> list[Chain]:
    """Every chain, reckoned anew from its first act."""
    return [
        Chain(tenant_id, length, bytes(hash_), broken_at) for tenant_id, length, hash_, broken_at in tx.execute(_VERIFY)
    ]
