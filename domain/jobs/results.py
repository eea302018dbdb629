"""How long the result of a job can be read: as long as the job itself, or for the `result_ttl` of its kind.

Whoever shows a job asks here, so that a result is gone from every answer at the moment it expires; retention takes it
out of the row afterwards.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.jobs.kind import KINDS
from domain.jobs.partitions import lowest_id_at


def result_expires_at(job: Row[Any]) -> datetime | None:
    """Until when the result can be read; None while the job has not finished, or when it lives as long as the job."""
    kind = KINDS.get(job.kind)
    if kind is None or kind.result_ttl_s is None or job.finished_at is None:
        return None
    expires_at: datetime = job.finished_at + timedelta(seconds=kind.result_ttl_s)
    return expires_at


def readable_result(job: Row[Any], now: datetime) -> Any:
    """The result, unless it has expired at `now`."""
    expires_at = result_expires_at(job)
    return None if expires_at is not None and expires_at <= now else job.result


# By the hour in which jobs were made, and not by an index: one that named `result` would end the HOT updates of jobs.
_STALE = """
    SELECT j.id FROM jobs AS j
      JOIN unnest(CAST(:kinds AS text[]), CAST(:ttls AS float8[])) AS k(kind, ttl_s) ON k.kind = j.kind
     WHERE j.id >= :lowest AND j.id < :beyond AND j.result IS NOT NULL
       AND j.finished_at <= CAST(:now AS timestamptz) - make_interval(secs => k.ttl_s)
"""

_FORGET = text(
    f"""
    WITH stale AS MATERIALIZED ({_STALE} LIMIT :limit FOR UPDATE OF j SKIP LOCKED)
    UPDATE jobs SET result = NULL, version = version + 1
      FROM stale WHERE jobs.id = stale.id AND jobs.id >= :lowest AND jobs.id < :beyond
    """  # noqa: S608  # constants of ours
)
_COUNT = text(f"SELECT count(*) FROM ({_STALE}) AS stale")  # noqa: S608  # constants of ours

_EVER, _NEVER = UUID(int=0), UUID(int=(1 << 128) - 1)


class Hour(msgspec.Struct, frozen=True):
    """The ids of the jobs that were made within an hour: `lowest` <= id < `beyond`."""

    lowest: UUID
    beyond: UUID


def hours_with_expiring_results(since: datetime, now: datetime) -> list[Hour]:
    """The hours whose jobs may have expired results: those before `since` as one; [] when no kind's results expire."""
    shortest = min((kind.result_ttl_s for kind in KINDS.values() if kind.result_ttl_s is not None), default=None)
    if shortest is None:
        return []
    last = max(since, now - timedelta(seconds=shortest))
    starts = [since + timedelta(hours=n) for n in range(1 + int((last - since) / timedelta(hours=1)))]
    edges = [_EVER, *map(lowest_id_at, [*starts, last + timedelta(milliseconds=1)])]
    return [Hour(lowest, beyond) for lowest, beyond in pairwise(edges)]


def forget_results(tx: Connection, hour: Hour, now: datetime, limit: int = 1_000) -> int:
    """Up to `limit` expired results of one range of ids are gone from their rows. Answers how many."""
    return tx.execute(
        _FORGET, {**_expiring(now), "lowest": hour.lowest, "beyond": hour.beyond, "limit": limit}
    ).rowcount


def count_expired_results(tx: Connection, now: datetime) -> int:
    """How many results have expired and still lie in their rows."""
    return int(tx.execute(_COUNT, {**_expiring(now), "lowest": _EVER, "beyond": _NEVER}).scalar_one())


def _expiring(now: datetime) -> dict[str, object]:
    ttls = {kind.name: kind.result_ttl_s for kind in KINDS.values() if kind.result_ttl_s is not None}
    return {"kinds": list(ttls), "ttls": list(ttls.values()), "now": now}
