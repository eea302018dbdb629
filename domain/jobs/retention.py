"""Retention: a job can be read for so many days after it finished; then it leaves, with its attempts, by the week.

A week's partition goes when the whole week is older than that. What in it still waits, runs, or finished later moves to
the default partition under the same id, and leaves from there row by row. In three steps, each of them a commit, and a
place where another process or a later pass may take over:

1. read which rows stay, holding nothing up;
2. detach the partition and move those rows, under a lock on the whole table, which waits and lasts for moments.
   (DETACH CONCURRENTLY would lock less, but PostgreSQL refuses it where there is a default partition.)
3. the detached table is nobody's: move what changed between the first two steps, and drop it, in its own time.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.partitions import PARTITIONED, lowest_id_at, partition_name, partitions_made

#: Claims and finishes queue behind a detach that waits: it gives up soon, and is tried again by a later pass.
DETACH_WITHIN_MS = 100
#: A week with more rows than this to move stays whole until they have finished: 5,000 hold the lock for some 0.2 s.
MOST_MOVED = 5_000


class OldWeek(msgspec.Struct, frozen=True):
    """One partition of a week that is over for good, `attached` until its detach has committed."""

    table: str
    week: datetime
    attached: bool

    @property
    def name(self) -> str:
        return partition_name(self.table, self.week)

    @property
    def bounds(self) -> dict[str, UUID]:
        return {"lowest": lowest_id_at(self.week), "beyond": lowest_id_at(self.week + timedelta(weeks=1))}


class Contents(msgspec.Struct, frozen=True):
    """How many rows a partition holds, how many of them stay, and of how many jobs those are."""

    rows: int
    staying: int
    staying_jobs: int


def take_turn(tx: Connection) -> bool:
    """Whether this transaction is the only one that retains, until it ends."""
    return bool(tx.execute(text("SELECT pg_try_advisory_xact_lock(hashtext('longshore.retention'))")).scalar())


def old_weeks(tx: Connection, cutoff: datetime) -> list[OldWeek]:
    """The partitions whose week ended before `cutoff`, oldest first, the jobs of a week before its attempts."""
    made = [OldWeek(table, week, attached) for table in PARTITIONED for week, attached in partitions_made(tx, table)]
    over = [old for old in made if old.week + timedelta(weeks=1) <= cutoff]
    return sorted(over, key=lambda old: (old.week, list(PARTITIONED).index(old.table)))


# Which rows of a partition stay: jobs that are alive or young, and their attempts, whether they have moved or will.
_STAYS = {
    "jobs": "(part.finished_at IS NULL OR part.finished_at >= :cutoff)",
    "attempts": """part.job_id IN (SELECT id FROM jobs WHERE id >= :lowest AND id < :beyond
                                    AND (finished_at IS NULL OR finished_at >= :cutoff))""",
}


def is_its_turn(tx: Connection, old: OldWeek) -> bool:
    """Whether the jobs of this week have left: their attempts follow."""
    jobs = partition_name("jobs", old.week)
    return old.table == "jobs" or tx.execute(text("SELECT to_regclass(:name)"), {"name": jobs}).scalar() is None


def contents_of(tx: Connection, old: OldWeek, cutoff: datetime) -> Contents:
    """Counted, row by row: for people who ask before they drop."""
    key, stays = PARTITIONED[old.table], _STAYS[old.table]
    count = f"""
        SELECT count(*), count(*) FILTER (WHERE {stays}), count(DISTINCT {key}) FILTER (WHERE {stays})
          FROM {old.name} AS part
    """  # noqa: S608  # constants of ours
    return Contents(*tx.execute(text(count), {"cutoff": cutoff, **old.bounds}).one())


def jobs_that_stay(tx: Connection, old: OldWeek, cutoff: datetime) -> list[UUID] | None:
    """The ids of the jobs whose rows in this partition stay; None when they are more than MOST_MOVED."""
    key = PARTITIONED[old.table]
    query = f"SELECT DISTINCT {key} FROM {old.name} AS part WHERE {_STAYS[old.table]} LIMIT :limit"  # noqa: S608  # constants of ours
    ids = tx.execute(text(query), {"cutoff": cutoff, "limit": MOST_MOVED + 1, **old.bounds}).scalars().all()
    return None if len(ids) > MOST_MOVED else list(ids)


def detach_and_move(tx: Connection, old: OldWeek, staying: Sequence[UUID]) -> int:
    """The partition is a table of its own, the rows of these jobs are in the default partition. Answers how many rows.

    Fails with SQLSTATE 55P03 when the lock is not to be had at once: somebody reads the table for long.
    """
    tx.execute(text(f"SET LOCAL lock_timeout = {DETACH_WITHIN_MS}"))
    tx.exec_driver_sql(f"ALTER TABLE {old.table} DETACH PARTITION {old.name}")
    return _move(tx, old, f"part.{PARTITIONED[old.table]} = ANY(CAST(:staying AS uuid[]))", staying=list(staying))


def move_and_drop(tx: Connection, old: OldWeek, cutoff: datetime) -> int:
    """The detached table is gone, but for rows that came to stay after all. Answers how many rows went."""
    _move(tx, old, _STAYS[old.table], cutoff=cutoff, **old.bounds)
    rows: int = tx.execute(text(f"SELECT count(*) FROM {old.name}")).scalar_one()  # noqa: S608  # a name of ours
    tx.exec_driver_sql(f"DROP TABLE {old.name}")
    return rows


def _move(tx: Connection, old: OldWeek, which: str, **values: object) -> int:
    moved = f"""
        WITH moved AS (DELETE FROM {old.name} AS part WHERE {which} RETURNING *)
        INSERT INTO {old.table} TABLE moved
    """  # noqa: S608  # constants of ours
    return tx.execute(text(moved), values).rowcount


_EXPIRED_BY_DEFAULT = "FROM jobs_default WHERE finished_at < :cutoff"

_DELETE = text(
    f"""
    WITH expired AS MATERIALIZED (
        SELECT id {_EXPIRED_BY_DEFAULT} ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM jobs_default USING expired WHERE jobs_default.id = expired.id RETURNING jobs_default.id),
    theirs AS (DELETE FROM attempts_default USING expired WHERE attempts_default.job_id = expired.id)
    SELECT count(*) FROM gone
    """  # noqa: S608  # constants of ours
)


def delete_expired_strays(tx: Connection, cutoff: datetime, limit: int = 1_000) -> int:
    """Up to `limit` jobs of the default partition that finished before `cutoff` are gone. Answers how many."""
    return int(tx.execute(_DELETE, {"cutoff": cutoff, "limit": limit}).scalar_one())


def count_expired_strays(tx: Connection, cutoff: datetime) -> int:
    """How many jobs of the default partition finished before `cutoff`."""
    return int(tx.execute(text(f"SELECT count(*) {_EXPIRED_BY_DEFAULT}"), {"cutoff": cutoff}).scalar_one())
