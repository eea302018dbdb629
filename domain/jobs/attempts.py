"""The fenced start of an attempt and its lease: one worker claims a job, and speaks every 2 s while it runs.

A claim raises the job's `claim` number (the fence). Only the holder of that number may finish the job (`finish`): two
runs of one job may overlap when a process stalls past its lease, two can never both commit.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

#: How long a worker may be silent before its running jobs are taken over, and how often it speaks.
LEASE_S = 8.0
RENEW_EVERY_S = 2.0


class ClaimedJob(msgspec.Struct, frozen=True):
    """A job that is this worker's to run, as long as `claim` is its claim number."""

    id: UUID
    tenant_id: UUID
    kind: str
    queue: str
    args: object
    claim: int
    attempt: int
    max_attempts: int
    crashes: int
    due_at: datetime
    started_at: datetime
    order_id: UUID | None
    event_id: UUID | None
    lane: str | None
    trace_context: dict[str, str] | None


# A bell may be doubled or early: only a waiting job whose time has come starts, and only its outbox row goes. Ids are
# locked in order, or two overlapping bundles deadlock; BETWEEN prunes partitions, which `= ANY` alone does not.
_START = text(
    """
    WITH mine AS MATERIALIZED (
        SELECT id FROM jobs
         WHERE id = ANY(CAST(:ids AS uuid[])) AND id BETWEEN :lowest AND :highest
           AND state IN ('scheduled', 'queued', 'retrying') AND due_at <= clock_timestamp()
         ORDER BY id FOR UPDATE SKIP LOCKED),
    started AS (
        UPDATE jobs SET state = 'running', claim = claim + 1, attempt = attempt + 1, version = version + 1,
               started_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => :lease_s),
               worker_id = :worker_id
          FROM mine WHERE jobs.id = mine.id AND jobs.id BETWEEN :lowest AND :highest
     RETURNING jobs.*),
    gone AS (DELETE FROM outbox USING mine WHERE outbox.job_id = mine.id)
    SELECT id, tenant_id, kind, queue, args, claim, attempt, max_attempts, crashes, due_at, started_at, order_id,
           event_id, lane, trace_context
      FROM started ORDER BY id
    """
)


def start_if_due(tx: Connection, ids: Sequence[UUID], worker_id: UUID, lease_s: float = LEASE_S) -> list[ClaimedJob]:
    """Those of `ids` that were waiting and due are running under a new claim, their obligations ended. One statement.

    The others are left alone: already running, finished, cancelled, not yet due, or unknown. A crash before the commit
    leaves everything as it was, and the outbox rows ring again.
    """
    if not ids:
        return []
    bounds = {"ids": list(ids), "lowest": min(ids), "highest": max(ids)}
    rows = tx.execute(_START, {**bounds, "worker_id": worker_id, "lease_s": lease_s})
    return [ClaimedJob(*row) for row in rows]


_HOLD = text(
    """
    SELECT j.id FROM jobs AS j
      JOIN unnest(CAST(:ids AS uuid[]), CAST(:claims AS int[])) AS t(id, claim) ON t.id = j.id AND t.claim = j.claim
     WHERE j.id BETWEEN :lowest AND :highest AND j.state = 'running' ORDER BY j.id FOR UPDATE OF j
    """
)


def hold(tx: Connection, jobs: Sequence[ClaimedJob]) -> set[UUID]:
    """The ids still held under their claims, locked until the caller commits: nobody takes them over meanwhile."""
    ids = [job.id for job in jobs]
    bounds = {"ids": ids, "claims": [job.claim for job in jobs], "lowest": min(ids), "highest": max(ids)}
    return set(tx.execute(_HOLD, bounds).scalars())


_RENEW = text(
    """
    UPDATE jobs AS j SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
      FROM unnest(CAST(:ids AS uuid[]), CAST(:claims AS int[])) AS t(id, claim)
     WHERE j.id = t.id AND j.claim = t.claim AND j.id BETWEEN :lowest AND :highest AND j.state = 'running'
 RETURNING j.id, j.cancel_requested_at IS NOT NULL
    """
)


def renew_leases(tx: Connection, held: Sequence[tuple[UUID, int]], lease_s: float = LEASE_S) -> dict[UUID, bool]:
    """The leases of these (job id, claim) pairs run `lease_s` from now. Answers id -> cancel was requested.

    A pair missing from the answer is lost: finished, or taken over.
    """
    if not held:
        return {}
    ids = [job_id for job_id, _ in held]
    bounds = {"ids": ids, "claims": [claim for _, claim in held], "lowest": min(ids), "highest": max(ids)}
    renewed = tx.execute(_RENEW, {**bounds, "lease_s": lease_s})
    return {job_id: cancel for job_id, cancel in renewed}  # noqa: C416  # mypy knows no pairs in rows


_PROGRESS = text(
    """
    UPDATE jobs SET progress = CAST(:progress AS jsonb), version = version + 1
     WHERE id = :id AND claim = :claim AND state = 'running'
    """
)


def report_progress_if_held(tx: Connection, job: ClaimedJob, done: int, total: int | None, message: str) -> None:
    """What a poller of the job sees as progress. A stale holder writes nothing."""
    progress = msgspec.json.encode({"done": done, "total": total, "message": message}).decode()
    tx.execute(_PROGRESS, {"id": job.id, "claim": job.claim, "progress": progress})
