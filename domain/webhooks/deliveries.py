"""Deliveries as the owner of their events reads them: which job tells which endpoint of which event."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from domain.tables.events import events
from domain.tables.webhooks import webhook_deliveries


def deliveries_of(tx: Connection, tenant_id: UUID, job_ids: Sequence[UUID]) -> dict[UUID, Row[Any]]:
    """Of these jobs those that deliver an event, by their ids, with the event's type."""
    if not job_ids:
        return {}
    c = webhook_deliveries.c
    query = select(c.job_id, c.endpoint_id, events.c.type).join(
        events, (events.c.tenant_id == c.tenant_id) & (events.c.id == c.event_id)
    )
    rows: Any = tx.execute(query.where(c.tenant_id == tenant_id, c.job_id.in_(job_ids)))
    return {row.job_id: row for row in rows}
