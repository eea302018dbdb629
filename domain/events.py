"""Publishing: an event, and in the same transaction the job and the obligation of everyone who consumes it.

Consumers are the kinds declared with `on=` the event, and every webhook endpoint of the tenant that subscribed to its
type. Endpoints are matched here and not from a cache, so a subscription counts from the moment it is committed.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.event_types import Event
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook
from domain.jobs.kind import consumers_of
from domain.jobs.outbox import NewJob, columns, enqueue, new_job
from domain.lanes.lanes import endpoint_lane
from domain.stored_json import stored_json

_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Occurrence(msgspec.Struct, frozen=True):
    """An event about to be published: whose it is, which thing it is about, and its place in that thing's history.

    The jobs that consume it inherit the deadline. Deliveries to subscribers do not: what happened stays worth telling.
    """

    tenant_id: UUID
    subject: UUID
    sequence: int
    event: Event
    trace_context: dict[str, str] | None = None
    deadline_at: datetime | None = None


class _EventRow(msgspec.Struct, frozen=True):
    id: UUID
    tenant_id: UUID
    type: str
    subject: UUID
    data: str
    sequence: int


class _DeliveryRow(msgspec.Struct, frozen=True):
    job_id: UUID
    tenant_id: UUID
    endpoint_id: UUID
    event_id: UUID
    endpoint_version: int


_WRITE_EVENTS = text(
    """
    INSERT INTO events (id, tenant_id, type, subject, data, sequence)
    SELECT id, tenant_id, type, subject, CAST(data AS jsonb), sequence
      FROM unnest(CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:type AS text[]), CAST(:subject AS uuid[]),
                  CAST(:data AS text[]), CAST(:sequence AS int[]))
        AS t(id, tenant_id, type, subject, data, sequence)
    """
)
_SUBSCRIBED = text(
    """
    SELECT id, tenant_id, event_types, retry, version FROM webhook_endpoints
     WHERE tenant_id = ANY(CAST(:tenants AS uuid[]))
       AND (event_types && CAST(:types AS text[]) OR '*' = ANY(event_types))
    """
)
_WRITE_DELIVERIES = text(
    """
    INSERT INTO webhook_deliveries (job_id, tenant_id, endpoint_id, event_id, endpoint_version)
    SELECT * FROM unnest(CAST(:job_id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:endpoint_id AS uuid[]),
                         CAST(:event_id AS uuid[]), CAST(:endpoint_version AS int[]))
    """
)


def publish(tx: Connection, occurrences: Sequence[Occurrence]) -> None:
    """The events stand and everyone who consumes them has a job, if and only if the caller's transaction commits.

    Raises TooLarge for the data of one.
    """
    if not occurrences:
        return
    ids = [new_id() for _ in occurrences]
    tx.execute(_WRITE_EVENTS, columns([_event_row(*pair) for pair in zip(ids, occurrences, strict=True)]))
    endpoints = _subscribed(tx, occurrences)
    jobs: list[NewJob] = []
    deliveries: list[_DeliveryRow] = []
    for event_id, occurrence in zip(ids, occurrences, strict=True):
        jobs.extend(_consumer_jobs(event_id, occurrence))
        for endpoint in _matching(endpoints, occurrence):
            job = _delivery_job(event_id, occurrence, endpoint)
            jobs.append(job)
            deliveries.append(_DeliveryRow(job.id, occurrence.tenant_id, endpoint.id, event_id, endpoint.version))
    enqueue(tx, jobs)
    if deliveries:
        tx.execute(_WRITE_DELIVERIES, columns(deliveries))


def _event_row(event_id: UUID, of: Occurrence) -> _EventRow:
    data = stored_json(_ENCODER.encode(of.event), f"the data of {of.event.type}")
    return _EventRow(event_id, of.tenant_id, of.event.type, of.subject, data, of.sequence)


def _subscribed(tx: Connection, occurrences: Sequence[Occurrence]) -> list[Row[Any]]:
    tenants = list({occurrence.tenant_id for occurrence in occurrences})
    types = list({occurrence.event.type for occurrence in occurrences})
    return list(tx.execute(_SUBSCRIBED, {"tenants": tenants, "types": types}))


def _matching(endpoints: Sequence[Row[Any]], occurrence: Occurrence) -> Iterable[Row[Any]]:
    for endpoint in endpoints:
        if endpoint.tenant_id == occurrence.tenant_id and {"*", occurrence.event.type} & set(endpoint.event_types):
            yield endpoint


def _consumer_jobs(event_id: UUID, of: Occurrence) -> Iterable[NewJob]:
    for kind in consumers_of(type(of.event)):
        args = kind.payload(**{name: getattr(of.event, name) for name in kind.payload.__struct_fields__})
        yield new_job(args, deadline_at=of.deadline_at, **_origin(event_id, of))


def _delivery_job(event_id: UUID, of: Occurrence, endpoint: Row[Any]) -> NewJob:
    args = DeliverWebhook(endpoint_id=endpoint.id, event_id=event_id)
    allowance = endpoint.retry["maxAttempts"] if endpoint.retry else None
    return new_job(args, max_attempts=allowance, lane=endpoint_lane(endpoint.id), **_origin(event_id, of))


def _origin(event_id: UUID, of: Occurrence) -> dict[str, Any]:
    order_id = of.subject if of.event.type.startswith("order.") else None
    trace = msgspec.json.encode(of.trace_context).decode() if of.trace_context else None
    return {"tenant_id": of.tenant_id, "event_id": event_id, "order_id": order_id, "trace_context": trace}
