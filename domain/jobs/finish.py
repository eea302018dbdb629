"""The end of an attempt, written: the job's next state, its attempt, and its next obligation or its dead letter.

Only the holder of the claim can write it; a worker whose lease was taken over is refused.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from domain.jobs.attempts import ClaimedJob, uuid_array
from domain.jobs.fingerprint_rules import fingerprint
from domain.jobs.partitions import within
from domain.jobs.retry_policy import DeadlineExceeded, Decision, Ending, Errored, Snoozed, Succeeded
from domain.jobs.state_machine import JobState
from domain.stored_json import stored_json
from domain.text_rules import storable


class Finish(msgspec.Struct, frozen=True):
    """What shall become of one claimed job, in the shape of the statement that writes it."""

    job: ClaimedJob
    state: str
    outcome: str
    due_at: datetime | None = None
    attempt_returned: bool = False
    cause: str | None = None
    result: str | None = None
    error: str | None = None
    error_class: str | None = None
    error_message: str | None = None
    fingerprint: str | None = None
    detail: str | None = None

    @property
    def id(self) -> UUID:
        return self.job.id

    @property
    def claim(self) -> int:
        return self.job.claim

    @property
    def is_plain(self) -> bool:
        """Success, and nothing to say about it: what most jobs end with."""
        return self.state == "succeeded" and self.result is None and self.detail is None


class FinishedJob(msgspec.Struct, frozen=True):
    """A job whose finish was written. A job missing from the answer had been taken over: its finish was refused."""

    id: UUID
    claim: int
    tenant_id: UUID
    kind: str
    queue: str
    state: str
    order_id: UUID | None
    outcome: str
    parent_id: UUID | None = None
    unique_key: str | None = None


def is_plain(ending: Ending) -> bool:
    """Success without a result: there is nothing to decide."""
    return type(ending) is Succeeded and ending.result is None


def plain_finish_of(job: ClaimedJob) -> Finish:
    """`finish_of` for such an ending: a tenth of its cost, and most jobs end so."""
    return Finish(job, "succeeded", "succeeded")


def finish_of(job: ClaimedJob, ending: Ending, decision: Decision, detail: object = None) -> Finish:
    """The row that records this ending of this claim. Raises TooLarge for its result or detail."""
    error = _error_of(ending)
    if error is None and decision.state is JobState.DEAD:  # handed back too late to run again
        error = _error_of(DeadlineExceeded())
    return Finish(
        job=job,
        state=decision.state,
        outcome=decision.outcome,
        due_at=decision.due_at,
        attempt_returned=decision.attempt_returned,
        cause=decision.cause,
        result=_json(ending.result, "the result") if isinstance(ending, Succeeded) else None,
        error=_json({"class": error.error_class, "message": storable(error.message)}, "the error") if error else None,
        error_class=error.error_class if error else None,
        error_message=storable(error.message) if error else None,
        fingerprint=fingerprint(job.kind, error.error_class, error.message, error.traceback) if error else None,
        detail=_json(_detail(error, detail), "the detail"),
    )


def _error_of(ending: Ending) -> Errored | None:
    match ending:
        case Errored():
            return ending
        case Snoozed(why=why, handed_back=False):
            return Errored("Snooze", why)
        case Snoozed() | Succeeded():
            return None
        case _:
            return Errored(type(ending).__name__, (type(ending).__doc__ or "").split(".")[0])


def _detail(error: Errored | None, detail: object) -> object:
    if error is None or not error.traceback:
        return detail
    return {"traceback": storable(error.traceback), **(detail if isinstance(detail, dict) else {})}


def _json(value: object, what: str) -> str | None:
    return None if value is None else stored_json(msgspec.json.encode(value), what)


# Who cancels itself has asked for it: cancelled jobs are found by that time (`queries`).
_FINISH = """
    WITH decided AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:claim AS int[]), CAST(:state AS text[]), CAST(:outcome AS text[]),
            CAST(:due_at AS timestamptz[]), CAST(:attempt_returned AS boolean[]), CAST(:cause AS text[]),
            CAST(:result AS text[]), CAST(:error AS text[]), CAST(:error_class AS text[]),
            CAST(:error_message AS text[]), CAST(:fingerprint AS text[]), CAST(:detail AS text[]))
          AS t(id, claim, state, outcome, due_at, attempt_returned, cause, result, error, error_class, error_message,
               fingerprint, detail)),
    held AS MATERIALIZED (
        SELECT j.id, j.attempt FROM jobs AS j JOIN decided AS d ON d.id = j.id AND d.claim = j.claim
         WHERE j.id = ANY(CAST(:id AS uuid[])) AND j.id {weeks} AND j.state = 'running' ORDER BY j.id FOR UPDATE OF j),
    finished AS (
        UPDATE jobs AS j
           SET state = CASE WHEN d.state IN ('queued', 'retrying') AND j.cancel_requested_at IS NOT NULL
                            THEN 'cancelled' ELSE d.state END,
               version = version + 1,
               attempt = j.attempt - CAST(d.attempt_returned AS int),
               crashes = j.crashes + CAST(d.outcome = 'crashed' AS int),
               due_at = coalesce(d.due_at, j.due_at),
               finished_at = CASE WHEN d.due_at IS NULL OR j.cancel_requested_at IS NOT NULL
                                  THEN clock_timestamp() END,
               cancel_requested_at = CASE WHEN d.state = 'cancelled'
                                          THEN coalesce(j.cancel_requested_at, clock_timestamp())
                                          ELSE j.cancel_requested_at END,
               result = CAST(d.result AS jsonb), last_error = CASE WHEN d.state <> 'succeeded'
                                 THEN coalesce(CAST(d.error AS jsonb), j.last_error) END
          FROM decided AS d JOIN held ON held.id = d.id
         WHERE j.id = d.id AND j.claim = d.claim AND j.id = ANY(CAST(:id AS uuid[])) AND j.id {weeks}
     RETURNING j.*, held.attempt AS number, d.outcome, d.cause, d.error_class, d.error_message, d.fingerprint,
               d.detail),
    obliged AS (
        INSERT INTO outbox (job_id, queue, kind, priority, tenant_id, lane, due_at, alone)
        SELECT id, queue, kind, priority, tenant_id, lane, due_at, outcome IN ('crashed', 'handed_back')
          FROM finished WHERE state IN ('queued', 'retrying')),
    buried AS (
        INSERT INTO dead_letters (id, tenant_id, job_id, kind, fingerprint, cause, snapshot)
        SELECT uuidv7(), tenant_id, id, kind, fingerprint, cause,
               jsonb_build_object('kind', kind, 'queue', queue, 'priority', priority, 'args', args,
                                  'attempts', attempt, 'crashes', crashes,
                                  'maxAttempts', max_attempts, 'lane', lane, 'orderId', order_id, 'eventId', event_id,
                                  'parentId', parent_id, 'uniqueKey', unique_key, 'deadlineAt', deadline_at,
                                  'createdAt', created_at, 'traceContext', trace_context, 'error', last_error,
                                  'detail', CAST(detail AS jsonb))
          FROM finished WHERE state = 'dead'),
    recorded AS (
        INSERT INTO attempts (job_id, claim, number, worker_id, started_at, finished_at, outcome, error_class,
                              error_message, fingerprint, detail)
        SELECT id, claim, number, worker_id, started_at, clock_timestamp(), outcome, error_class, error_message,
               fingerprint, CAST(detail AS jsonb)
          FROM finished)
    SELECT id, claim, tenant_id, kind, queue, state, order_id, outcome, parent_id, unique_key FROM finished
    """


# The same for plain successes of one claim number, at a third of the cost: nothing to bury, to oblige or to say, and
# nothing to join. The ids are in order, in which all writers lock.
_SUCCEED = """
    WITH finished AS (
        UPDATE jobs
           SET state = 'succeeded', version = version + 1, finished_at = clock_timestamp(), last_error = NULL
         WHERE id = ANY(CAST(:ids AS uuid[])) AND id {weeks} AND claim = :claim AND state = 'running'
     RETURNING id, unique_key, claim, attempt, worker_id, started_at, finished_at),
    recorded AS (
        INSERT INTO attempts (job_id, claim, number, worker_id, started_at, finished_at, outcome)
        SELECT id, claim, attempt, worker_id, started_at, finished_at, 'succeeded' FROM finished)
    SELECT CAST(json_agg(json_build_array(id, unique_key)) AS text) FROM finished
    """

# As in `attempts`: one text instead of many rows.
_SUCCEEDED = msgspec.json.Decoder(list[tuple[UUID, str | None]])


def finish_if_held(tx: Connection, finishes: Sequence[Finish]) -> list[FinishedJob]:
    """Each job still held under its claim is what its finish says; its attempt is recorded.

    One statement for all plain successes with the same claim number, one for the others.

    A job that shall run again gets its outbox row, a job that gave up its dead letter, in the same statement. Jobs
    whose lease was taken over are refused and missing from the answer. Callers use `domain.aftermath.settle`, which
    adds what else becomes true when a job gives up.
    """
    plain: dict[int, list[Finish]] = {}
    for finish in finishes:
        if finish.is_plain:
            plain.setdefault(finish.job.claim, []).append(finish)
    others = [finish for finish in finishes if not finish.is_plain]
    succeeded = [job for claim, mates in plain.items() for job in _succeed(tx, claim, mates)]
    return succeeded + _finish(tx, others)


def _succeed(tx: Connection, claim: int, finishes: Sequence[Finish]) -> list[FinishedJob]:
    jobs = {finish.job.id: finish.job for finish in finishes}
    ids = sorted(jobs)
    written = tx.execute(within(_SUCCEED, ids), {"ids": uuid_array(ids), "claim": claim}).scalar()
    rows = _SUCCEEDED.decode(written) if written else []
    return [_succeeded(jobs[job_id], unique_key) for job_id, unique_key in rows]


def _succeeded(job: ClaimedJob, unique_key: str | None) -> FinishedJob:
    state = outcome = "succeeded"
    return FinishedJob(
        job.id, job.claim, job.tenant_id, job.kind, job.queue, state, job.order_id, outcome, job.parent_id, unique_key
    )


def _finish(tx: Connection, finishes: Sequence[Finish]) -> list[FinishedJob]:
    if not finishes:
        return []
    ids = [finish.id for finish in finishes]
    decided = {name: [getattr(finish, name) for finish in finishes] for name in _DECIDED}
    rows = tx.execute(within(_FINISH, ids), decided)
    return [FinishedJob(*row) for row in rows.all()]


_DECIDED = ("id", "claim", *[name for name in Finish.__struct_fields__ if name != "job"])
