"""Rescue: jobs whose worker fell silent past its lease, and obligations that nobody holds any more.

A lost lease counts as a crash. The job comes back through the outbox, alone in its bundle, so that the next crash
names the culprit; after 3 crashes it is dead.
"""

from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.aftermath import settle
from domain.database import database_clock, database_time
from domain.jobs.attempts import CLAIMED, RUNNING_JOBS, ClaimedJob
from domain.jobs.decision import decided
from domain.jobs.finish import FinishedJob, finish_of
from domain.jobs.retry_now import make_lane_due_now
from domain.jobs.retry_policy import Crashed

# A lease goes with the take-over of its jobs, except for those that somebody is just finishing: nobody waits for them,
# and the lease keeps them for another second.
_EXPIRED = text(
    f"""
    WITH expired AS MATERIALIZED (
        SELECT id, job_ids, claims FROM leases WHERE lease_until < clock_timestamp()
         LIMIT :limit FOR UPDATE SKIP LOCKED),
    held AS MATERIALIZED (
        SELECT expired.id AS lease_id, j.id, j.claim
          FROM expired CROSS JOIN LATERAL unnest(expired.job_ids, expired.claims) AS held(id, claim)
          JOIN jobs AS j ON j.id = held.id AND j.claim = held.claim AND j.state = 'running'),
    taken AS MATERIALIZED (
        SELECT {", ".join(f"j.{column}" for column in ClaimedJob.__struct_fields__)}
          FROM held JOIN jobs AS j ON j.id = held.id AND j.claim = held.claim
         WHERE j.state = 'running' ORDER BY j.id FOR UPDATE OF j SKIP LOCKED),
    busy AS MATERIALIZED (
        SELECT lease_id, array_agg(id) AS job_ids, array_agg(claim) AS claims
          FROM held WHERE id NOT IN (SELECT id FROM taken) GROUP BY lease_id),
    kept AS (
        UPDATE leases SET job_ids = busy.job_ids, claims = busy.claims,
               lease_until = clock_timestamp() + interval '1 second'
          FROM busy WHERE leases.id = busy.lease_id),
    gone AS (
        DELETE FROM leases USING expired
         WHERE leases.id = expired.id AND leases.id NOT IN (SELECT lease_id FROM busy))
    SELECT {CLAIMED} FROM taken
    """  # noqa: S608  # constants of ours
)


def take_over_expired(tx: Connection, limit: int = 20) -> list[FinishedJob]:
    """The running jobs of up to `limit` leases that ran out wait again, or are dead after their third crash.

    Their old holders can no longer finish them. Several rescuers skip each other's leases, and all skip a job that is
    locked.
    """
    taken = [ClaimedJob(*row) for row in tx.execute(_EXPIRED, {"limit": limit})]
    if taken:
        database_time.hear(database_clock(tx))
    finishes = []
    for job in taken:
        ending = Crashed(job.crashes + 1)
        finishes.append(finish_of(job, ending, decided(job, ending)))
    return settle(tx, finishes)


# A waiting job without an outbox row would wait for ever, a running one without a lease run for ever. No transaction of
# ours makes either; this is the net below. It reads the whole table in small steps, since no index knows the state.
_MEND = text(
    """
    WITH step AS MATERIALIZED (
        SELECT id, tenant_id, kind, queue, state, claim, worker_id, priority, lane, due_at FROM jobs
         WHERE id > :after ORDER BY id LIMIT :limit),
    offered AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
        SELECT jobs.id, jobs.queue, jobs.kind, jobs.priority, jobs.tenant_id, jobs.lane,
               greatest(jobs.due_at, clock_timestamp())
          FROM step JOIN jobs ON jobs.id = step.id
         WHERE step.state IN ('scheduled', 'queued', 'retrying')
           AND jobs.state IN ('scheduled', 'queued', 'retrying')
           AND NOT EXISTS (SELECT FROM outbox WHERE outbox.job_id = step.id)
           FOR UPDATE OF jobs SKIP LOCKED
            ON CONFLICT DO NOTHING
     RETURNING job_id),
    held AS MATERIALIZED (
        SELECT held.* FROM leases CROSS JOIN LATERAL unnest(leases.job_ids, leases.claims) AS held(id, claim)
         WHERE EXISTS (SELECT FROM step WHERE state = 'running')),
    unheld AS MATERIALIZED (
        SELECT id, claim, worker_id FROM step
         WHERE state = 'running' AND worker_id IS NOT NULL AND (id, claim) NOT IN (SELECT id, claim FROM held)),
    leased AS (
        INSERT INTO leases (id, worker_id, lease_until, job_ids, claims)
        SELECT uuidv7(), worker_id, clock_timestamp(), array_agg(id), array_agg(claim) FROM unheld GROUP BY worker_id)
    SELECT (SELECT count(*) FROM offered), (SELECT count(*) FROM unheld),
           (SELECT id FROM step ORDER BY id DESC LIMIT 1)
    """
)
_FIRST = UUID(int=0)


class Mended(msgspec.Struct, frozen=True):
    """What one step found: anything but 0 is a bug of ours. `last` = the id to go on from, None after the last job."""

    offered: int
    leased: int
    last: UUID | None


def mend_unheld(tx: Connection, after: UUID | None = None, limit: int = 10_000) -> Mended:
    """Of the next `limit` jobs after this id, those that wait and lost their outbox row have one again (`offered`).

    Those that run and lost their lease have one that is over (`leased`): they are taken over as if their worker had
    died, and whoever may still run them is refused.
    """
    return Mended(*tx.execute(_MEND, {"after": after or _FIRST, "limit": limit}).one())


# An endpoint was deleted while a delivery to it ran: the lane went with it, the retry came after it.
_REOPEN = text(
    """
    WITH lost AS (SELECT DISTINCT ON (lane) lane, queue, tenant_id FROM outbox
                   WHERE lane IS NOT NULL AND NOT EXISTS (SELECT FROM lanes WHERE name = outbox.lane)),
         opened AS (INSERT INTO lanes (name, queue) SELECT lane, queue FROM lost ON CONFLICT DO NOTHING RETURNING name)
    SELECT lane, tenant_id FROM lost WHERE lane IN (SELECT name FROM opened)
    """
)


def reopen_lost_lanes(tx: Connection) -> int:
    """Every lane that an obligation names exists, so that the obligation is rung. Answers how many were opened.

    What waits in it for its next attempt is due now: it will find that nothing is to be done.
    """
    opened = tx.execute(_REOPEN).all()
    for lane, tenant_id in opened:
        make_lane_due_now(tx, tenant_id, lane)
    return len(opened)


_RECOUNT = text(
    f"""
    WITH running_jobs AS MATERIALIZED (SELECT j.lane FROM ({RUNNING_JOBS}) AS j WHERE j.lane IS NOT NULL)
    UPDATE lanes SET in_flight = c.n
      FROM (SELECT l.name,
                   (SELECT count(*) FROM outbox AS o
                     WHERE o.lane = l.name AND o.rings > 0 AND o.due_at > clock_timestamp())
                 + (SELECT count(*) FROM running_jobs AS j WHERE j.lane = l.name) AS n
              FROM lanes AS l WHERE l.in_flight > 0) AS c
     WHERE lanes.name = c.name AND lanes.in_flight <> c.n
    """  # noqa: S608  # constants of ours
)


def recount_lanes(tx: Connection) -> int:
    """The lanes' counts of jobs in flight are what outbox and leases say. A crash leaks no room for long."""
    return tx.execute(_RECOUNT).rowcount
