"""Dead letters: what gave up, kept until an operator replays, edits and replays, or discards it. Each once.

A replay keeps the job: same id, so the outside sees the same idempotency key; its allowance is raised, its history
stays. An edited replay is a new job that names the old one. Both go through the outbox and into the audit log.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, Select, func, select, text

import domain.job_kinds  # noqa: F401  # declares the kinds
from domain.aftermath import recount
from domain.audit import record_act
from domain.errors import BodyInvalid, DeadLetterResolved, NotFound, TwinExists, Violation
from domain.ids import new_id
from domain.jobs.groups import DISCARDED, REPLAYED, Count, children_of
from domain.jobs.kind import KINDS, find_kind
from domain.jobs.outbox import NewJob, enqueue
from domain.jobs.unique import UniqueKey, hand_over_key, take_keys
from domain.stretch import Stretch
from domain.tables.jobs import dead_letters


class DeadLetterFilter(msgspec.Struct, frozen=True):
    """Which dead letters: all fields given must match. `resolved` None = both."""

    kind: str | None = None
    fingerprint: str | None = None
    since: datetime | None = None
    resolved: bool | None = False
    tenant_id: UUID | None = None

    @property
    def narrows(self) -> bool:
        """Whether it asks for more than a resolution and whose they are."""
        return any(given is not None for given in (self.kind, self.fingerprint, self.since))


def find_dead_letters(tx: Connection, wanted: DeadLetterFilter, stretch: Stretch = Stretch(100)) -> list[Row[Any]]:  # noqa: B008  # a value
    """A stretch of the dead letters that match, by id."""
    return list(tx.execute(stretch.of(_matching(select(dead_letters), wanted), dead_letters.c.id)).all())


def match_dead_letters(tx: Connection, wanted: DeadLetterFilter) -> list[UUID]:
    """The ids of all dead letters that match, oldest first: the frozen plan of a bulk replay or discard."""
    return list(tx.execute(_matching(select(dead_letters.c.id), wanted).order_by(dead_letters.c.id)).scalars())


def group_dead_letters(tx: Connection, wanted: DeadLetterFilter, limit: int = 100) -> list[Row[Any]]:
    """The cases: dead letters that match, one row per kind and fingerprint, the largest group first.

    Each carries the error of its newest member, and when the first and the last of them died.
    """
    letter, count, times = dead_letters.c, func.count().label("count"), dead_letters.c.died_at
    spans = (count, func.min(times).label("first_died_at"), func.max(times).label("last_died_at"))
    grouped = _matching(select(letter.kind, letter.fingerprint, *spans), wanted).group_by(
        letter.kind, letter.fingerprint
    )
    cases = grouped.order_by(count.desc(), letter.fingerprint).limit(limit).subquery("cases")
    mates = _matching(select(letter.snapshot["error"]), wanted).where(
        letter.kind == cases.c.kind, letter.fingerprint == cases.c.fingerprint
    )
    newest_error = mates.order_by(letter.id.desc()).limit(1).scalar_subquery().label("error")
    return list(tx.execute(select(cases, newest_error).order_by(cases.c.count.desc(), cases.c.fingerprint)).all())


def _matching(query: Select[Any], wanted: DeadLetterFilter) -> Select[Any]:
    if wanted.tenant_id is not None:
        query = query.where(dead_letters.c.tenant_id == wanted.tenant_id)
    if wanted.kind is not None:
        query = query.where(dead_letters.c.kind == wanted.kind)
    if wanted.fingerprint is not None:
        query = query.where(dead_letters.c.fingerprint == wanted.fingerprint)
    if wanted.since is not None:
        query = query.where(dead_letters.c.died_at >= wanted.since)
    if wanted.resolved is not None:
        resolution = dead_letters.c.resolution
        query = query.where(resolution.is_not(None) if wanted.resolved else resolution.is_(None))
    return query


def get_dead_letter(tx: Connection, dead_letter_id: UUID, tenant_id: UUID | None = None) -> Row[Any]:
    """One dead letter. Raises NotFound, also for another tenant's; operators name no tenant."""
    row = tx.execute(select(dead_letters).where(dead_letters.c.id == dead_letter_id)).first()
    if row is None or tenant_id not in (None, row.tenant_id):
        raise NotFound(resource="Dead letter")
    return row


_RESOLVE = text(
    """
    UPDATE dead_letters SET resolution = :resolution, resolved_at = clock_timestamp(), resolved_by = :by,
           reason = :reason, replay_job_id = :replay_job_id
     WHERE id = :id AND resolution IS NULL
    """
)

_REVIVE = text(
    """
    WITH revived AS (
        UPDATE jobs SET state = 'queued', version = version + 1, due_at = clock_timestamp(), finished_at = NULL,
               crashes = 0, max_attempts = greatest(max_attempts, attempt + :allowance), cancel_requested_at = NULL,
               deadline_at = NULL
         WHERE id = :job_id AND state = 'dead'
     RETURNING id, queue, kind, priority, tenant_id, lane, due_at),
    obliged AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at)
        SELECT id, queue, kind, priority, tenant_id, lane, due_at FROM revived)
    SELECT id FROM revived
    """
)


# Whoever polls the thing that the dead job was for finds the job that stands in for it.
_HAND_OVER = (
    text("UPDATE orders SET root_job_id = :new WHERE root_job_id = :old AND tenant_id = :tenant_id AND id = :order_id"),
    text("UPDATE reports SET job_id = :new WHERE job_id = :old AND tenant_id = :tenant_id"),
    text("UPDATE webhook_deliveries SET job_id = :new WHERE job_id = :old AND tenant_id = :tenant_id"),
)


def replay_if_open(tx: Connection, dead_letter_id: UUID, by: str, reason: str | None = None) -> UUID:
    """The job is queued again with a fresh allowance of attempts and without its deadline. Answers its id.

    Where retention has taken the job's row, a new job is made from the snapshot. Raises NotFound; DeadLetterResolved
    when it was replayed or discarded before, also by somebody else at the same moment; TwinExists when another job has
    its unique key by now.
    """
    letter = _lock_open(tx, dead_letter_id)
    kind = KINDS.get(letter.kind)
    allowance = kind.retry.max_attempts if kind else 1
    job_id = tx.execute(_REVIVE, {"job_id": letter.job_id, "allowance": allowance}).scalar()
    if job_id is None:
        job_id = _enqueue_copy(tx, letter, letter.snapshot["args"], _uuid(letter.snapshot["orderId"]))
    elif key := _key_of(letter):
        _refuse_twin(take_keys(tx, [key]).get(job_id))
    _count(tx, letter, REPLAYED)
    _resolve(tx, letter, "replayed", by, reason, job_id)
    return job_id


def replay_edited_if_open(
    tx: Connection, dead_letter_id: UUID, args: dict[str, Any], by: str, reason: str | None = None
) -> UUID:
    """A new job with these arguments stands in for the dead one, which stays as it is. Answers the new id.

    It keeps the place in a group and the unique key, and has no deadline. Raises BodyInvalid when the arguments do not
    fit the kind, and what a replay raises. The kind itself cannot be edited.
    """
    letter = _lock_open(tx, dead_letter_id)
    try:
        payload = find_kind(letter.kind).decode(args)
    except msgspec.ValidationError as error:
        raise BodyInvalid(violations=[Violation("args", str(error))]) from error
    named = getattr(payload, "order_id", None)  # a kind may call by this name what is no order of ours
    order_id = named if isinstance(named, UUID) else _uuid(letter.snapshot["orderId"])
    job_id = _enqueue_copy(tx, letter, args, order_id)
    _count(tx, letter, REPLAYED)
    _resolve(tx, letter, "edited", by, reason, job_id, args=args)
    return job_id


def discard_if_open(tx: Connection, dead_letter_id: UUID, by: str, reason: str | None = None) -> None:
    """The dead letter is closed without a replay; its job stays dead, and its group, if any, waits for it no more."""
    letter = _lock_open(tx, dead_letter_id)
    _count(tx, letter, DISCARDED)
    _resolve(tx, letter, "discarded", by, reason, None)


def _lock_open(tx: Connection, dead_letter_id: UUID) -> Row[Any]:
    letter = tx.execute(select(dead_letters).where(dead_letters.c.id == dead_letter_id).with_for_update()).first()
    if letter is None:
        raise NotFound(resource="Dead letter")
    if letter.resolution is not None:
        raise DeadLetterResolved(resolution=letter.resolution)
    return letter


def _enqueue_copy(tx: Connection, letter: Row[Any], args: dict[str, Any], order_id: UUID | None) -> UUID:
    snapshot = letter.snapshot
    job = NewJob(
        id=new_id(),
        tenant_id=letter.tenant_id,
        kind=letter.kind,
        queue=snapshot["queue"],
        args=msgspec.json.encode(args).decode(),
        max_attempts=snapshot["maxAttempts"],
        priority=snapshot["priority"],
        order_id=order_id,
        event_id=_uuid(snapshot["eventId"]),
        parent_id=_group_of(tx, letter) or letter.job_id,
        lane=snapshot["lane"],
        trace_context=msgspec.json.encode(snapshot["traceContext"]).decode(),
        unique_key=snapshot.get("uniqueKey"),
    )
    if key := _key_of(letter):
        hand_over_key(tx, key, job.id)
    _refuse_twin(enqueue(tx, [job]).get(job.id))
    for hand_over in _HAND_OVER:
        tx.execute(
            hand_over, {"old": letter.job_id, "new": job.id, "tenant_id": letter.tenant_id, "order_id": job.order_id}
        )
    return job.id


def _key_of(letter: Row[Any]) -> UniqueKey | None:
    key = letter.snapshot.get("uniqueKey")
    return UniqueKey(letter.tenant_id, letter.kind, key, letter.job_id) if key else None


def _refuse_twin(twin_id: UUID | None) -> None:
    if twin_id is not None:
        raise TwinExists(job_id=twin_id)


def _group_of(tx: Connection, letter: Row[Any]) -> UUID | None:
    parent_id = _uuid(letter.snapshot.get("parentId"))
    return parent_id if parent_id and children_of(tx, letter.tenant_id, parent_id) else None


def _count(tx: Connection, letter: Row[Any], change: Count) -> None:
    if parent_id := _uuid(letter.snapshot.get("parentId")):
        recount(tx, {parent_id: change})


def _uuid(value: str | None) -> UUID | None:
    return None if value is None else UUID(value)


def _resolve(
    tx: Connection,
    letter: Row[Any],
    resolution: str,
    by: str,
    reason: str | None,
    job_id: UUID | None,
    **detail: object,
) -> None:
    resolved = {"id": letter.id, "resolution": resolution, "by": by, "reason": reason, "replay_job_id": job_id}
    tx.execute(_RESOLVE, resolved)
    record_act(tx, letter.tenant_id, by, f"dead_letter.{resolution}", str(letter.id), reason, detail or None)
