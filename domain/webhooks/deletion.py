"""Deleting an endpoint: gone for its owner at once, whatever hangs on it.

Where that is little, it goes in the same transaction. Else the endpoint subscribes to nothing from then on, which marks
it as deleted, and retention takes the rest away in steps: no publisher waits for long. Its lane is closed only where
much waits in it: a delivery that comes back runs, finds no endpoint, and ends.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, select, text, update

from domain.errors import NotFound
from domain.jobs.attempts import uuid_array
from domain.jobs.partitions import within
from domain.lanes.lane_rules import FULL_ROOM
from domain.lanes.lanes import disable_lane, drop_lane, endpoint_lane
from domain.tables.webhooks import webhook_endpoints
from domain.versions import check_version
from domain.webhooks.endpoints import IS_THERE

#: How many waiting and how many past deliveries are little.
LITTLE = 1_000

# Outbox rows are locked before their jobs, and in id order, as the claim does it.
_LOCK_SOME = text(
    """
    SELECT job_id FROM outbox WHERE job_id = ANY(ARRAY(
           SELECT job_id FROM outbox WHERE lane = :lane AND tenant_id = :tenant_id LIMIT :limit))
     ORDER BY job_id FOR UPDATE
    """
)
_CANCEL = """
    WITH waiting AS (DELETE FROM outbox WHERE job_id = ANY(CAST(:ids AS uuid[])) RETURNING job_id)
    UPDATE jobs SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp(),
           cancel_requested_at = clock_timestamp()
     WHERE id = ANY(ARRAY(SELECT job_id FROM waiting)) AND id {weeks} AND tenant_id = :tenant_id
       AND state IN ('scheduled', 'queued', 'retrying')
    """
# What was under way may have come back since the others were locked, and be no more than there is room for. Whoever
# runs it finds no endpoint.
_MUCH_WAITS = text(
    """
    SELECT count(*) > :room FROM (SELECT FROM outbox
     WHERE lane = :lane AND tenant_id = :tenant_id LIMIT :room + 1) AS o
    """
)
_MUCH_IS_PAST = text(
    """
    SELECT count(*) > :limit FROM (SELECT FROM webhook_deliveries
     WHERE tenant_id = :tenant_id AND endpoint_id = :endpoint_id LIMIT :limit + 1) AS d
    """
)
_FORGET_SOME = text(
    """
    DELETE FROM webhook_deliveries WHERE job_id = ANY(ARRAY(
           SELECT job_id FROM webhook_deliveries
            WHERE tenant_id = :tenant_id AND endpoint_id = :endpoint_id LIMIT :limit))
    """
)


def delete_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID, seen: Collection[int] | None = None) -> None:
    """The endpoint is gone, and no delivery to it begins any more; those that wait are cancelled, now or in steps.

    Raises NotFound, or VersionConflict when it is at no version that was `seen`.
    """
    c = webhook_endpoints.c
    it = _is(tenant_id, endpoint_id)
    # From here on nobody adds a delivery; the row goes last, since the lane is this tenant's as long as it is there.
    row = tx.execute(select(c.version).where(it, IS_THERE).with_for_update()).first()
    if row is None:
        raise NotFound(resource="Webhook endpoint")
    check_version("The webhook endpoint", row.version, seen)
    if not _ended(tx, tenant_id, endpoint_id, LITTLE):
        tx.execute(update(webhook_endpoints).where(it).values(event_types=[], secrets=[], version=c.version + 1))


def deleted_endpoints(tx: Connection) -> Sequence[tuple[UUID, UUID]]:
    """Tenant and id of those on which something hangs yet."""
    c = webhook_endpoints.c
    return [(row.tenant_id, row.id) for row in tx.execute(select(c.tenant_id, c.id).where(~IS_THERE))]


def end_deleted_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID, limit: int = LITTLE) -> bool:
    """So many that wait are cancelled, so many of all deliveries forgotten. Whether that was all, and it is gone."""
    tx.execute(_FORGET_SOME, {"tenant_id": tenant_id, "endpoint_id": endpoint_id, "limit": limit})
    return _ended(tx, tenant_id, endpoint_id, limit)


def _ended(tx: Connection, tenant_id: UUID, endpoint_id: UUID, limit: int) -> bool:
    lane = endpoint_lane(endpoint_id)
    bounds = {"lane": lane, "tenant_id": tenant_id, "endpoint_id": endpoint_id, "limit": limit, "room": FULL_ROOM}
    if ids := tx.execute(_LOCK_SOME, bounds).scalars().all():
        tx.execute(within(_CANCEL, ids), {"ids": uuid_array(ids), "tenant_id": tenant_id})
    if tx.execute(_MUCH_WAITS, bounds).scalar():
        disable_lane(tx, lane)
        return False
    drop_lane(tx, lane)  # for what comes back yet, the rescuer opens it again
    if tx.execute(_MUCH_IS_PAST, bounds).scalar():
        return False
    tx.execute(delete(webhook_endpoints).where(_is(tenant_id, endpoint_id)))
    return True


def _is(tenant_id: UUID, endpoint_id: UUID) -> ColumnElement[bool]:
    c = webhook_endpoints.c
    return (c.tenant_id == tenant_id) & (c.id == endpoint_id)
