"""Groups: one job that waits for others. It fires once, in the transaction in which the last of its children ends.

The waiting job exists from the beginning: `scheduled`, with its obligation, for a time that never comes. Its id is the
id of the group and the `parent_id` of its children. A dead child that is replayed before the group is closed is waited
for again; after that its end changes nothing any more.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.finish import FinishedJob
from domain.jobs.outbox import NewJob, enqueue
from domain.jobs.partitions import within
from domain.jobs.state_machine import TERMINAL, JobState

#: When a job is due that waits for others.
NEVER = datetime(9999, 12, 31, tzinfo=UTC)

_OPEN = text(
    """
    INSERT INTO job_groups (id, tenant_id, needs_success, total, closed_at)
    VALUES (:id, :tenant_id, :needs_success, :total, CASE WHEN :total = 0 THEN clock_timestamp() END)
    """
)


def enqueue_group(
    tx: Connection, children: Sequence[NewJob], then: NewJob, *, only_if_all_succeed: bool = False
) -> UUID:
    """The children are enqueued, and `then` waits for them: it fires when every one has succeeded, died or been
    cancelled. Answers its id, which is that of the group.

    With `only_if_all_succeed` a dead child is waited for until its replay succeeds, and `then` is cancelled when a
    child is, or when its dead letter is discarded. A child that is a twin of another job is not waited for; without
    children `then` fires at once. Raises ValueError unless all are of one tenant and `then` is neither unique nor
    scheduled.
    """
    if then.unique_key is not None or then.due_at is not None:
        raise ValueError("the job that waits for a group is neither unique nor scheduled")
    if any(child.tenant_id != then.tenant_id for child in children):
        raise ValueError("a group is of one tenant")
    twins = enqueue(tx, [msgspec.structs.replace(child, parent_id=then.id) for child in children])
    total = len(children) - len(twins)
    enqueue(tx, [msgspec.structs.replace(then, due_at=NEVER) if total else then])
    group = {"id": then.id, "tenant_id": then.tenant_id, "needs_success": only_if_all_succeed, "total": total}
    tx.execute(_OPEN, group)
    return then.id


class Family(msgspec.Struct, frozen=True):
    """Jobs that a job wants to follow from its success, and the one that waits for them, if any."""

    children: Sequence[NewJob]
    then: NewJob | None = None
    only_if_all_succeed: bool = False


def enqueue_families(tx: Connection, families: Sequence[Family]) -> None:
    """`enqueue_group` for those with a job that waits; `enqueue` for all the others, in one statement."""
    enqueue(tx, [child for family in families if family.then is None for child in family.children])
    for family in families:
        if family.then is not None:
            enqueue_group(tx, family.children, family.then, only_if_all_succeed=family.only_if_all_succeed)


class Children(msgspec.Struct, frozen=True):
    """What has become of a job's children; when it fired, if it has. `waiting` have not ended."""

    total: int
    waiting: int
    succeeded: int
    dead: int
    cancelled: int


#: The same as a column of a statement that reads `jobs` under this name.
CHILDREN_COLUMN = """(
    SELECT json_build_object('total', g.total, 'waiting', g.total - g.succeeded - g.dead - g.cancelled,
                             'succeeded', g.succeeded, 'dead', g.dead, 'cancelled', g.cancelled)
      FROM job_groups AS g WHERE g.id = {jobs}.id)"""
_CHILDREN = text(
    """
    SELECT total, total - succeeded - dead - cancelled, succeeded, dead, cancelled
      FROM job_groups WHERE id = :id AND tenant_id = :tenant_id
    """
)


def children_of(tx: Connection, tenant_id: UUID, job_id: UUID) -> Children | None:
    """The children that this job waits or waited for; None when it is an ordinary job."""
    row = tx.execute(_CHILDREN, {"id": job_id, "tenant_id": tenant_id}).first()
    return Children(*row) if row else None


class Count(msgspec.Struct):
    """By how much the counts of a group change."""

    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0


#: A dead child lives again. A dead letter that is discarded is a child that nobody waits for.
REPLAYED, DISCARDED = Count(dead=-1), Count(dead=-1, cancelled=1)


def counts_of(ended: Iterable[FinishedJob]) -> dict[UUID, Count]:
    """The ends of these jobs by the group that they belong to."""
    counts: dict[UUID, Count] = defaultdict(Count)
    for job in ended:
        if job.parent_id is not None and job.state in TERMINAL:
            count = counts[job.parent_id]
            match job.state:
                case JobState.SUCCEEDED:
                    count.succeeded += 1
                case JobState.DEAD:
                    count.dead += 1
                case _:
                    count.cancelled += 1
    return counts


# Groups are locked in order, or two batches with children of the same groups deadlock. A parent that is no group, or a
# group that is closed, matches nothing. Locked first and counted then, in two statements: whoever waited for a lock
# counts on what the other committed, and PostgreSQL 18 can fail where one statement does both and reads `jobs` too.
_LOCK = text(
    """
    SELECT id FROM job_groups WHERE id = ANY(CAST(:ids AS uuid[])) AND closed_at IS NULL ORDER BY id FOR UPDATE
    """
)
_COUNT = text(
    """
    UPDATE job_groups AS g
       SET succeeded = g.succeeded + t.succeeded, dead = g.dead + t.dead, cancelled = g.cancelled + t.cancelled
      FROM unnest(CAST(:ids AS uuid[]), CAST(:succeeded AS int[]), CAST(:dead AS int[]), CAST(:cancelled AS int[]))
        AS t(id, succeeded, dead, cancelled) WHERE g.id = t.id
 RETURNING g.id, g.succeeded = g.total OR (NOT g.needs_success AND g.succeeded + g.dead + g.cancelled = g.total)
           AS complete, g.needs_success AND g.cancelled > 0 AS hopeless
    """
)
# The waiting job is moved, here and below, only if nobody hurried or cancelled it meanwhile.
_TELL = """
    UPDATE jobs SET version = version + 1
     WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks}
       AND state = 'scheduled' AND due_at = :never
    """
_CLOSE = text("UPDATE job_groups SET closed_at = clock_timestamp() WHERE id = ANY(CAST(:ids AS uuid[]))")
_FIRE = """
    WITH fired AS (
        UPDATE jobs SET due_at = clock_timestamp(), version = version + 1
         WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks}
           AND state = 'scheduled' AND due_at = :never
     RETURNING id, due_at)
    UPDATE outbox SET due_at = fired.due_at FROM fired WHERE outbox.job_id = fired.id
    """
_GIVE_UP = """
    WITH cancelled AS (
        UPDATE jobs SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp(),
               cancel_requested_at = clock_timestamp()
         WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks}
           AND state = 'scheduled' AND due_at = :never
     RETURNING id, claim, tenant_id, kind, queue, state, order_id, parent_id, unique_key),
    gone AS (DELETE FROM outbox USING cancelled WHERE outbox.job_id = cancelled.id)
    SELECT id, claim, tenant_id, kind, queue, state, order_id, 'cancelled', parent_id, unique_key FROM cancelled
    """


def count_children(tx: Connection, counts: Mapping[UUID, Count]) -> list[FinishedJob]:
    """The groups know of these ends, one update for each group; those that are complete fire.

    Answers the waiting jobs that were cancelled because their group can no longer be complete.
    """
    open_ids = list(tx.execute(_LOCK, {"ids": list(counts)}).scalars()) if counts else []
    if not open_ids:
        return []
    told = {name: [getattr(counts[id_], name) for id_ in open_ids] for name in Count.__struct_fields__}
    counted = tx.execute(_COUNT, {"ids": open_ids, **told}).all()
    tx.execute(within(_TELL, open_ids), _waiting(open_ids))
    complete = [group.id for group in counted if group.complete]
    hopeless = [group.id for group in counted if group.hopeless and not group.complete]
    if complete or hopeless:
        tx.execute(_CLOSE, {"ids": complete + hopeless})
    if complete:
        tx.execute(within(_FIRE, complete), _waiting(complete))
    if not hopeless:
        return []
    return [FinishedJob(*row) for row in tx.execute(within(_GIVE_UP, hopeless), _waiting(hopeless))]


def _waiting(ids: Sequence[UUID]) -> dict[str, object]:
    return {"ids": list(ids), "never": NEVER}


_FORGET = text(
    """
    DELETE FROM job_groups WHERE id = ANY(ARRAY(
        SELECT id FROM job_groups AS g WHERE id < :beyond AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = g.id)
         LIMIT :limit))
    """
)


def forget_groups(tx: Connection, beyond: UUID, limit: int = 1_000) -> int:
    """Groups with ids before `beyond` whose waiting job retention has taken are gone. Answers how many."""
    return tx.execute(_FORGET, {"beyond": beyond, "limit": limit}).rowcount
