"""Rows as the records that commands print: camelCase names that never change, and no customer's e-mail address.

A traceback may quote one (a mail server's refusal does), so whatever a job left behind is masked on its way out.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from domain.jobs.groups import NEVER
from domain.jobs.results import readable_result, result_expires_at

# The domain part has a dot, and the dot is not the last character: `user@host`, an operator, stays readable.
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+")


def masked(value: Any) -> Any:
    """The value with every e-mail address in it hidden, however deep."""
    match value:
        case str():
            return _ADDRESS.sub("<e-mail>", value)
        case dict():
            return {name: masked(inner) for name, inner in value.items()}
        case list():
            return [masked(inner) for inner in value]
        case _:
            return value


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def record(row: Any) -> dict[str, Any]:
    """Every column of the row under its camelCase name."""
    return {camel(name): value for name, value in row._mapping.items()}


def dead_letter_record(row: Any) -> dict[str, Any]:
    """A dead letter in a list: without what its job was asked to do."""
    return {
        "id": row.id,
        "jobId": row.job_id,
        "tenantId": row.tenant_id,
        "kind": row.kind,
        "queue": row.snapshot["queue"],
        "fingerprint": row.fingerprint,
        "cause": row.cause,
        "error": masked(row.snapshot["error"]),
        "attempts": row.snapshot["attempts"],
        "diedAt": row.died_at,
        "resolution": row.resolution,
        "resolvedAt": row.resolved_at,
        "resolvedBy": row.resolved_by,
        "reason": row.reason,
        "replayJobId": row.replay_job_id,
    }


def job_record(row: Any) -> dict[str, Any]:
    """A job in a list."""
    return {
        "id": row.id,
        "tenantId": row.tenant_id,
        "kind": row.kind,
        "queue": row.queue,
        "state": row.state,
        "attempts": row.attempt,
        "maxAttempts": row.max_attempts,
        "crashes": row.crashes,
        "priority": row.priority,
        "lane": row.lane,
        "orderId": row.order_id,
        "eventId": row.event_id,
        "parentId": row.parent_id,
        "uniqueKey": masked(row.unique_key),
        "createdAt": row.created_at,
        "dueAt": None if row.due_at == NEVER else row.due_at,
        "deadlineAt": row.deadline_at,
        "startedAt": row.started_at,
        "finishedAt": row.finished_at,
        "cancelRequestedAt": row.cancel_requested_at,
        "workerId": row.worker_id,
        "progress": masked(row.progress),
        "result": masked(readable_result(row, datetime.now(UTC))),
        "resultExpiresAt": result_expires_at(row),
        "lastError": masked(row.last_error),
        "version": row.version,
    }


def attempt_record(row: Any) -> dict[str, Any]:
    """One run of a job. `number` counts against the allowance; `claim` is the fence, which never repeats."""
    took = None if row.started_at is None else (row.finished_at - row.started_at).total_seconds()
    return {
        "number": row.number,
        "claim": row.claim,
        "outcome": row.outcome,
        "startedAt": row.started_at,
        "finishedAt": row.finished_at,
        "seconds": took,
        "workerId": row.worker_id,
        "error": masked(error_of(row)),
        "fingerprint": row.fingerprint,
        "detail": masked(row.detail),
    }


def error_of(row: Any) -> Mapping[str, str] | None:
    return None if row.error_class is None else {"class": row.error_class, "message": row.error_message}


TIMELINE = {
    "#": "number",
    "outcome": "outcome",
    "started": "startedAt",
    "seconds": "seconds",
    "worker": "workerId",
    "error": "error",
}
