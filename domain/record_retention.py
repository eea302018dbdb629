"""Retention of what jobs leave behind: dead letters that are resolved, events, and the deliveries of events.

Each leaves after the jobs that it is about, in steps of so many rows, in the order of its primary key, which carries
its time. Jobs older than the oldest week that is there can only be in the default partition: that alone is searched.

Nothing leaves that a replay needs. An open dead letter stays, whatever its age, and so does its event. A resolved one
stays as long as its job or the one that stands in for it. So an event that is named by a job of a later week is named
by a dead letter too: its own jobs are made together with it, and others only by replays.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.partitions import lowest_id_at, partitions_made

#: An event and its jobs get their ids within one transaction. No clock is put forward by more than this meanwhile.
APART = timedelta(days=1)


class Past(msgspec.Struct, frozen=True):
    """Jobs with ids below `jobs` are in the default partition or gone; records with ids below `records` are of those.

    `cutoff` is the latest moment at which a dead letter that leaves was resolved.
    """

    cutoff: datetime
    jobs: UUID
    records: UUID


def past_at(tx: Connection, cutoff: datetime, leaving: Collection[datetime] = ()) -> Past:
    """What is past at `cutoff`, once the weeks that are `leaving` have left."""
    weeks = (week for week, _ in partitions_made(tx, "jobs") if week not in leaving)
    start = min([cutoff, *weeks])
    return Past(cutoff, lowest_id_at(start), lowest_id_at(start - APART))


class Records(msgspec.Struct, frozen=True):
    """One sort of record: its table, and which of those that are past leave: `r` is the row, {jobs} are those left."""

    table: str
    key: str
    leaves: str


DEAD_LETTERS = Records(
    "dead_letters",
    "id",
    """
    r.resolved_at < :cutoff AND greatest(r.job_id, r.replay_job_id) < :jobs
    AND NOT EXISTS (SELECT FROM {jobs} AS j WHERE j.id = ANY(ARRAY[r.job_id, r.replay_job_id]))
    """,
)
EVENTS = Records(
    "events",
    "id",
    """
    NOT EXISTS (SELECT FROM {jobs} AS j WHERE j.event_id = r.id)
    AND NOT EXISTS (SELECT FROM {dead_letters} AS d WHERE CAST(d.snapshot ->> 'eventId' AS uuid) = r.id)
    """,
)
DELIVERIES = Records("webhook_deliveries", "job_id", "NOT EXISTS (SELECT FROM events AS e WHERE e.id = r.event_id)")


class Step(msgspec.Struct, frozen=True):
    """How many records a step has deleted, and the last one that it looked at; None when there was none."""

    deleted: int
    last: UUID | None


# Those that stay are neither locked nor looked at twice in a pass.
_DELETE = """
    WITH looked_at AS MATERIALIZED (
        SELECT {key} AS id FROM {table} WHERE {key} > :after AND {key} < :records ORDER BY {key} LIMIT :limit),
    gone AS (
        DELETE FROM {table} WHERE {key} = ANY(ARRAY(
            SELECT {key} FROM {table} AS r WHERE {key} = ANY(ARRAY(SELECT id FROM looked_at)) AND {leaves}
               FOR UPDATE OF r SKIP LOCKED))
     RETURNING {key})
    SELECT (SELECT count(*) FROM gone), (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1)
    """


def delete_records(tx: Connection, records: Records, past: Past, after: UUID, limit: int = 1_000) -> Step:
    """Of the next `limit` records with ids above `after`, those that may leave are gone."""
    leaves = records.leaves.format(jobs="jobs_default", dead_letters="dead_letters")
    delete = _DELETE.format(table=records.table, key=records.key, leaves=leaves)
    return Step(*tx.execute(text(delete), {**msgspec.structs.asdict(past), "after": after, "limit": limit}).one())


_STAYING_JOBS = "(SELECT * FROM jobs WHERE id < :jobs AND (finished_at IS NULL OR finished_at >= :cutoff))"
_COUNT = text(
    f"""
    WITH leaving AS MATERIALIZED (
        SELECT id FROM dead_letters AS r
         WHERE id < :records AND {DEAD_LETTERS.leaves.format(jobs=_STAYING_JOBS)}),
    staying AS (SELECT * FROM dead_letters WHERE id NOT IN (SELECT id FROM leaving))
    SELECT (SELECT count(*) FROM leaving),
           (SELECT count(*) FROM events AS r
             WHERE id < :records AND {EVENTS.leaves.format(jobs=_STAYING_JOBS, dead_letters="staying")})
    """  # noqa: S608  # constants of ours
)


def count_leaving(tx: Connection, past: Past) -> tuple[int, int]:
    """How many dead letters and how many events may leave, once the jobs have left. Counted row by row."""
    letters, events = tx.execute(_COUNT, msgspec.structs.asdict(past)).one()
    return letters, events
