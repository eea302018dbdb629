"""Unique jobs: in a tenant, one job of a kind and key at a time, held in a small table of its own.

A key is held until its job has ended, or for a period whatever becomes of the job. Who asks for a key that is held gets
the holder's id. Two who ask at once: one waits for the other's commit, and finds its job.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

#: A key is part of an index entry, whose size has a bound.
LONGEST_KEY = 500


class UniqueKey(msgspec.Struct, frozen=True):
    """A key, and the job that has it or asks for it. `for_s` in seconds; None = until the job has ended."""

    tenant_id: UUID
    kind: str
    key: str
    job_id: UUID
    for_s: float | None = None


_ASKED = """
    unnest(CAST(:tenant_id AS uuid[]), CAST(:kind AS text[]), CAST(:key AS text[]), CAST(:job_id AS uuid[]),
           CAST(:for_s AS float8[])) AS a(tenant_id, kind, key, job_id, for_s)
"""

# Sorted: two batches with the same keys would wait for each other. A key that is held is read and not locked, so that
# neither its job's end nor anybody else waits for this transaction.
_TAKE = text(
    f"""
    INSERT INTO unique_jobs (tenant_id, kind, key, job_id, until)
    SELECT tenant_id, kind, key, job_id, clock_timestamp() + make_interval(secs => for_s) FROM {_ASKED}
     ORDER BY tenant_id, kind, key
        ON CONFLICT (tenant_id, kind, key) DO NOTHING
 RETURNING job_id
    """  # noqa: S608  # constants of ours
)
_TAKE_OVER_EXPIRED = text(
    f"""
    WITH expired AS MATERIALIZED (
        SELECT u.tenant_id, u.kind, u.key FROM unique_jobs AS u JOIN {_ASKED} USING (tenant_id, kind, key)
         WHERE u.until <= clock_timestamp() ORDER BY 1, 2, 3 FOR UPDATE OF u)
    UPDATE unique_jobs AS u SET job_id = a.job_id, until = clock_timestamp() + make_interval(secs => a.for_s)
      FROM {_ASKED} JOIN expired USING (tenant_id, kind, key)
     WHERE u.tenant_id = a.tenant_id AND u.kind = a.kind AND u.key = a.key
 RETURNING u.job_id
    """  # noqa: S608  # constants of ours
)
_HOLDERS = text(
    f"SELECT a.job_id, u.job_id FROM {_ASKED} JOIN unique_jobs AS u USING (tenant_id, kind, key)"  # noqa: S608
)


def take_keys(tx: Connection, asked: Sequence[UniqueKey]) -> dict[UUID, UUID]:
    """Each job has its key, or stands in the answer beside the job that has it: asking job's id -> holder's id."""
    holders: dict[UUID, UUID] = {}
    while asked:
        taken = set(tx.execute(_TAKE, _columns(asked)).scalars())
        if asked := [key for key in asked if key.job_id not in taken]:
            taken = set(tx.execute(_TAKE_OVER_EXPIRED, _columns(asked)).scalars())
            asked = [key for key in asked if key.job_id not in taken]
        if asked:
            found = {job_id: holder for job_id, holder in tx.execute(_HOLDERS, _columns(asked))}  # noqa: C416
            holders.update(found)
            asked = [key for key in asked if key.job_id not in found]  # their holders ended meanwhile
    return {job_id: holder for job_id, holder in holders.items() if job_id != holder}


def _columns(keys: Sequence[UniqueKey]) -> dict[str, list[object]]:
    return {name: [getattr(key, name) for key in keys] for name in UniqueKey.__struct_fields__}


_RELEASE = text(
    f"""
    DELETE FROM unique_jobs AS u USING {_ASKED}
     WHERE u.tenant_id = a.tenant_id AND u.kind = a.kind AND u.key = a.key AND u.job_id = a.job_id AND u.until IS NULL
    """  # noqa: S608  # constants of ours
)


def release_keys(tx: Connection, ended: Sequence[UniqueKey]) -> None:
    """These jobs have ended: their keys are free, except those held for a period."""
    if ended:
        tx.execute(_RELEASE, _columns(ended))


_HAND_OVER = text(
    """
    UPDATE unique_jobs SET job_id = :new
     WHERE tenant_id = :tenant_id AND kind = :kind AND key = :key AND job_id = :old
    """
)


def hand_over_key(tx: Connection, held: UniqueKey, new: UUID) -> None:
    """The job `new` has this key instead, if it is still held."""
    row = {"tenant_id": held.tenant_id, "kind": held.kind, "key": held.key, "old": held.job_id, "new": new}
    tx.execute(_HAND_OVER, row)


_FORGET = text(
    """
    DELETE FROM unique_jobs WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM unique_jobs WHERE until <= clock_timestamp() LIMIT :limit FOR UPDATE SKIP LOCKED))
    """
)


def forget_expired_keys(tx: Connection, limit: int = 1_000) -> int:
    """Keys whose period is over leave the table. Answers how many."""
    return tx.execute(_FORGET, {"limit": limit}).rowcount
