"""Webhook endpoints: who wants which events, where to, and with which secrets they are signed."""

import os
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, delete, insert, select, text, update

from domain.errors import NotFound
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook
from domain.jobs.kind import kind_of_class
from domain.lanes.lanes import disable_lane, drop_lane, endpoint_lane, open_lane, reopen_lane
from domain.stretch import Stretch
from domain.tables.events import events
from domain.tables.webhooks import webhook_endpoints
from domain.tenants.config import read_config
from domain.tenants.config_rules import LEGACY_WEBHOOK_HEADERS, is_on
from domain.vault import seal, unseal
from domain.versions import check_version

SECRET_BYTES = 32
_QUEUE = kind_of_class(DeliverWebhook).queue


class RetryOverride(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An endpoint's own schedule in place of the kind's: waits double from `base_seconds` up to `cap_seconds`."""

    max_attempts: int
    base_seconds: float
    cap_seconds: float = 86_400.0


class Subscriber(msgspec.Struct, frozen=True):
    """What a delivery needs to know of its endpoint; `secrets` are in the clear, newest first."""

    id: UUID
    url: str
    secrets: list[bytes]
    retry: RetryOverride | None
    #: It still gets the X-Webhook-* headers beside the standard ones.
    older_headers: bool


def create_endpoint(
    tx: Connection, key: bytes, tenant_id: UUID, url: str, event_types: Sequence[str], retry: RetryOverride | None
) -> tuple[Row[Any], bytes]:
    """An endpoint with a fresh secret and an open lane. Answers the row and the secret, which is shown only here."""
    endpoint_id, secret = new_id(), os.urandom(SECRET_BYTES)
    tx.execute(
        insert(webhook_endpoints).values(
            id=endpoint_id,
            tenant_id=tenant_id,
            url=url,
            event_types=sorted(set(event_types)),
            secrets=[seal(key, secret, _place(endpoint_id))],
            retry=None if retry is None else msgspec.to_builtins(retry),
        )
    )
    open_lane(tx, endpoint_lane(endpoint_id), _QUEUE)
    return get_endpoint(tx, tenant_id, endpoint_id), secret


def get_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID) -> Row[Any]:
    """One endpoint. Raises NotFound, also for another tenant's."""
    c = webhook_endpoints.c
    row = tx.execute(select(webhook_endpoints).where(c.tenant_id == tenant_id, c.id == endpoint_id)).first()
    if row is None:
        raise NotFound(resource="Webhook endpoint")
    return row


def list_endpoints(tx: Connection, tenant_id: UUID, stretch: Stretch) -> Sequence[Row[Any]]:
    """A stretch of the endpoints by id."""
    c = webhook_endpoints.c
    return tx.execute(stretch.of(select(webhook_endpoints).where(c.tenant_id == tenant_id), c.id)).all()


# Outbox rows are locked before their jobs, and in id order, as the claim does it.
_LOCK_OBLIGATIONS = text("SELECT FROM outbox WHERE lane = :lane ORDER BY job_id FOR UPDATE")
_CANCEL_DELIVERIES = text(
    """
    WITH waiting AS (DELETE FROM outbox WHERE lane = :lane RETURNING job_id)
    UPDATE jobs SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp(),
           cancel_requested_at = clock_timestamp()
      FROM waiting WHERE jobs.id = waiting.job_id AND state IN ('scheduled', 'queued', 'retrying')
    """
)


def delete_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID, seen: Collection[int] | None = None) -> None:
    """The endpoint, its lane and the deliveries still waiting for it are gone; those jobs are cancelled.

    Raises NotFound, or VersionConflict when it is at no version that was `seen`.
    """
    c = webhook_endpoints.c
    it = (c.tenant_id == tenant_id) & (c.id == endpoint_id)
    # From here on nobody adds a delivery; the row goes last, since the lane is this tenant's as long as it is there.
    row = tx.execute(select(c.version).where(it).with_for_update()).first()
    if row is None:
        raise NotFound(resource="Webhook endpoint")
    check_version("The webhook endpoint", row.version, seen)
    lane = endpoint_lane(endpoint_id)
    tx.execute(_LOCK_OBLIGATIONS, {"lane": lane})
    tx.execute(_CANCEL_DELIVERIES, {"lane": lane})
    drop_lane(tx, lane)
    tx.execute(delete(webhook_endpoints).where(it))


def disable_endpoint(tx: Connection, endpoint_id: UUID, reason: str) -> None:
    """The endpoint asked not to be sent to any more: its lane is closed, what waits for it is held."""
    c = webhook_endpoints.c
    values = {"disabled_at": text("clock_timestamp()"), "disabled_reason": reason, "version": c.version + 1}
    tx.execute(update(webhook_endpoints).where(c.id == endpoint_id, c.disabled_at.is_(None)).values(values))
    disable_lane(tx, endpoint_lane(endpoint_id))


class EndpointChange(msgspec.Struct, frozen=True):
    """What shall be different of an endpoint; what is not set stays as it is. `retry` None = the kind's timetable."""

    url: str | UnsetType = UNSET
    event_types: Sequence[str] | UnsetType = UNSET
    retry: RetryOverride | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


def change_endpoint(
    tx: Connection, tenant_id: UUID, endpoint_id: UUID, wanted: EndpointChange, seen: Collection[int] | None
) -> tuple[Row[Any], Row[Any]]:
    """The endpoint before and after, its lane open or closed; one version further unless it was as wanted already.

    What waits goes to the new address; who gets an event was decided when it happened. Raises NotFound, or
    VersionConflict when it is at no version that was `seen`.
    """
    c = webhook_endpoints.c
    it = (c.tenant_id == tenant_id) & (c.id == endpoint_id)
    before = tx.execute(select(webhook_endpoints).where(it).with_for_update(key_share=True)).first()
    if before is None:
        raise NotFound(resource="Webhook endpoint")
    check_version("The webhook endpoint", before.version, seen)
    values = _values(wanted, before)
    if values:
        tx.execute(update(webhook_endpoints).where(it).values(**values, version=c.version + 1))
        _steer_lane(tx, endpoint_lane(endpoint_id), wanted.enabled)
    return before, get_endpoint(tx, tenant_id, endpoint_id)


def _values(wanted: EndpointChange, old: Row[Any]) -> dict[str, Any]:
    """What the row says differently then."""
    values: dict[str, Any] = {} if wanted.url is UNSET else {"url": wanted.url}
    if wanted.event_types is not UNSET:
        values["event_types"] = sorted(set(wanted.event_types))
    if wanted.retry is not UNSET:
        values["retry"] = None if wanted.retry is None else msgspec.to_builtins(wanted.retry)
    values = {name: value for name, value in values.items() if value != old._mapping[name]}
    if wanted.enabled is True and old.disabled_at is not None:
        values |= {"disabled_at": None, "disabled_reason": None}
    if wanted.enabled is False and old.disabled_at is None:
        values |= {"disabled_at": text("clock_timestamp()"), "disabled_reason": "disabled by its owner"}
    return values


def _steer_lane(tx: Connection, lane: str, enabled: bool | UnsetType) -> None:
    if enabled is True:
        reopen_lane(tx, lane)
    if enabled is False:
        disable_lane(tx, lane)


def endpoint_facts(row: Row[Any]) -> dict[str, Any]:
    """What the audit log is told of an endpoint."""
    return {"url": row.url, "eventTypes": row.event_types, "retry": row.retry, "enabled": row.disabled_at is None}


def subscriber(tx: Connection, key: bytes, tenant_id: UUID, endpoint_id: UUID) -> Subscriber | None:
    """What a delivery to this endpoint needs, or None when the endpoint has been deleted."""
    try:
        row = get_endpoint(tx, tenant_id, endpoint_id)
    except NotFound:
        return None
    secrets = [unseal(key, bytes(sealed), _place(endpoint_id)) for sealed in row.secrets]
    said = read_config(tx, key, tenant_id, LEGACY_WEBHOOK_HEADERS)
    older = is_on(LEGACY_WEBHOOK_HEADERS, said, endpoint_id)
    return Subscriber(row.id, row.url, secrets, msgspec.convert(row.retry, RetryOverride | None), older)


def get_event(tx: Connection, tenant_id: UUID, event_id: UUID) -> Row[Any]:
    """One event of this tenant. Raises NotFound."""
    row = tx.execute(select(events).where(events.c.tenant_id == tenant_id, events.c.id == event_id)).first()
    if row is None:
        raise NotFound(resource="Event")
    return row


def _place(endpoint_id: UUID) -> str:
    return f"webhook_endpoints.secrets:{endpoint_id}"
