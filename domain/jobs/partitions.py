"""Weekly partitions of `jobs` and `attempts`, made ahead of time; what falls outside them waits in the default one.

Both are partitioned by the job's UUIDv7, whose first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

PARTITIONED = {"jobs": "id", "attempts": "job_id"}
WEEKS_AHEAD = 8


def lowest_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 that could have been made at `moment`."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def within(sql: str, ids: Collection[UUID]) -> TextClause:
    """The statement with its `{weeks}` written as the bounds of these ids' weeks: only their partitions are planned.

    `= ANY` alone prunes nothing. Bounds that are parameters prune when the statement runs, which costs more at each
    run, and can crash PostgreSQL 18 when it has to look again at a row that somebody has just changed.
    """
    return _within(sql, _week_of(min(ids)), _week_of(max(ids)))


@lru_cache(maxsize=256)
def _within(sql: str, first_week: int, last_week: int) -> TextClause:
    lowest, highest = UUID(int=_id_of_week(first_week)), UUID(int=_id_of_week(last_week + 1) - 1)
    return text(sql.replace("{weeks}", f"BETWEEN '{lowest}' AND '{highest}'"))


def _week_of(job_id: UUID) -> int:
    return (job_id.int - _FIRST_MONDAY) // _WEEK


def _id_of_week(week: int) -> int:
    return min(max(0, _FIRST_MONDAY + week * _WEEK), 1 << 128)  # a forged bell may hold any id


# In the arithmetic of ids. The first Monday after the epoch was the fifth of January 1970.
_WEEK = 7 * 86_400_000 << 80
_FIRST_MONDAY = 4 * 86_400_000 << 80


def partition_name(table: str, week: datetime) -> str:
    return f"{table}_{week:%G}w{week:%V}"


def monday_of(moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


def partitions_made(tx: Connection, table: str) -> list[tuple[datetime, bool]]:
    """The Mondays of the weeks that have a partition, oldest first, and whether it is attached: retention detaches."""
    named = text(
        """
        SELECT right(relname, 7), relispartition FROM pg_class
         WHERE relname ~ :pattern AND relkind = 'r' AND pg_table_is_visible(oid) ORDER BY relname
        """
    )
    found = tx.execute(named, {"pattern": rf"^{table}_\d{{4}}w\d{{2}}$"})
    return [(_monday_of_week(week), attached) for week, attached in found]


def _monday_of_week(week: str) -> datetime:
    return datetime.strptime(f"{week}1 +0000", "%Gw%V%u %z")


def create_partitions_ahead(tx: Connection, now: datetime, weeks: int = WEEKS_AHEAD) -> list[str]:
    """A partition exists for this week and the next `weeks`. Answers the names of those made now.

    Rows that came before their partition move over from the default one. Safe to run from several processes.
    """
    tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('longshore.partitions'))"))
    first = monday_of(now)
    wanted = [
        (table, key, first + timedelta(weeks=week)) for table, key in PARTITIONED.items() for week in range(weeks + 1)
    ]
    return [name for table, key, week in wanted if (name := _create_if_absent(tx, table, key, week))]


def _create_if_absent(tx: Connection, table: str, key: str, week: datetime) -> str | None:
    name = partition_name(table, week)
    if tx.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None:
        return None
    # Identifiers and bounds cannot be parameters of DDL; all of them are made here, from a date and two constants.
    bounds = f"FROM ('{lowest_id_at(week)}') TO ('{lowest_id_at(week + timedelta(weeks=1))}')"
    inside = f"{key} >= '{lowest_id_at(week)}' AND {key} < '{lowest_id_at(week + timedelta(weeks=1))}'"
    for statement in (
        f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH ({_STORAGE[table]})",
        f"WITH early AS (DELETE FROM {table}_default WHERE {inside} RETURNING *) INSERT INTO {name} TABLE early",  # noqa: S608  # constants of ours
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}",
    ):
        tx.exec_driver_sql(statement)
    return name


_VACUUM = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0"
#: Claim and finish of a job stay on its page (HOT); attempts are only added.
_STORAGE = {"jobs": f"fillfactor = 50, {_VACUUM}", "attempts": _VACUUM}
