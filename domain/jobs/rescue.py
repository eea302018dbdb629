"""Rescue: jobs whose worker fell silent past its lease, and obligations that nobody holds any more.

A lost lease counts as a crash. The job comes back through the outbox, alone in its bundle, so that the next crash
names the culprit; after 3 crashes it is dead.
"""

from sqlalchemy import Connection, text

from domain.aftermath import settle
from domain.jobs.attempts import ClaimedJob
from domain.jobs.decision import decided
from domain.jobs.finish import FinishedJob, finish_of
from domain.jobs.retry_policy import Crashed

_EXPIRED = text(
    """
    SELECT id, tenant_id, kind, queue, args, claim, attempt, max_attempts, crashes, due_at, started_at, order_id,
           event_id, lane, trace_context
      FROM jobs WHERE state = 'running' AND lease_until < clock_timestamp()
     ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)


def take_over_expired(tx: Connection, limit: int = 200) -> list[FinishedJob]:
    """Up to `limit` running jobs whose lease ran out wait again, or are dead after their third crash.

    Their old holders can no longer finish them. Several rescuers skip each other's rows.
    """
    finishes = []
    for row in tx.execute(_EXPIRED, {"limit": limit}):
        job = ClaimedJob(*row)
        ending = Crashed(job.crashes + 1)
        finishes.append(finish_of(job, ending, decided(job, ending)))
    return settle(tx, finishes)


# A waiting job without an outbox row would wait for ever. No transaction of ours makes one; this is the net below.
_OFFER = text(
    """
    INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
    SELECT id, queue, kind, priority, tenant_id, lane, greatest(due_at, clock_timestamp())
      FROM jobs
     WHERE state IN ('scheduled', 'queued', 'retrying')
       AND NOT EXISTS (SELECT FROM outbox WHERE outbox.job_id = jobs.id)
     LIMIT :limit FOR UPDATE SKIP LOCKED
        ON CONFLICT DO NOTHING
 RETURNING job_id
    """
)


def offer_unheld(tx: Connection, limit: int = 500) -> int:
    """Waiting jobs that lost their outbox row have one again. Answers how many: anything but 0 is a bug of ours."""
    return len(tx.execute(_OFFER, {"limit": limit}).all())


# An endpoint was deleted while a delivery to it ran: the lane went with it, the retry came after it.
_REOPEN = text(
    """
    INSERT INTO lanes (name, queue)
    SELECT DISTINCT ON (lane) lane, queue FROM outbox
     WHERE lane IS NOT NULL AND NOT EXISTS (SELECT FROM lanes WHERE name = outbox.lane)
        ON CONFLICT DO NOTHING
 RETURNING name
    """
)


def reopen_lost_lanes(tx: Connection) -> int:
    """Every lane that an obligation names exists, so that the obligation is rung. Answers how many were opened."""
    return len(tx.execute(_REOPEN).all())


_RECOUNT = text(
    """
    UPDATE lanes SET in_flight = c.n
      FROM (SELECT l.name,
                   (SELECT count(*) FROM outbox AS o
                     WHERE o.lane = l.name AND o.rings > 0 AND o.due_at > clock_timestamp())
                 + (SELECT count(*) FROM jobs AS j WHERE j.state = 'running' AND j.lane = l.name) AS n
              FROM lanes AS l WHERE l.in_flight > 0) AS c
     WHERE lanes.name = c.name AND lanes.in_flight <> c.n
    """
)


def recount_lanes(tx: Connection) -> int:
    """The lanes' counts of jobs in flight are what outbox and leases say. A crash leaks no room for long."""
    return tx.execute(_RECOUNT).rowcount
