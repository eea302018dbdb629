"""Weekly partitions of `jobs` and `attempts`, made ahead of time; what falls outside them waits in the default one.

Both are partitioned by the job's UUIDv7, whose first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

PARTITIONED = {"jobs": "id", "attempts": "job_id"}
WEEKS_AHEAD = 8


def lowest_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 that could have been made at `moment`."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def partition_name(table: str, week: datetime) -> str:
    return f"{table}_{week:%G}w{week:%V}"


def monday_of(moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


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
        f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH ({_STORAGE})",
        f"WITH early AS (DELETE FROM {table}_default WHERE {inside} RETURNING *) INSERT INTO {name} TABLE early",  # noqa: S608  # constants of ours
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}",
    ):
        tx.exec_driver_sql(statement)
    return name


#: Updates of a job stay on its page; vacuum starts by count, because a share of a big table comes too late.
_STORAGE = "fillfactor = 75, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0"
