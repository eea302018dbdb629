"""Webhook endpoints: who wants which events, where to, and with which secrets they are signed."""

import os
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, text, update

from domain.errors import NotFound, PlanExhausted
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook
from domain.jobs.kind import kind_of_class
from domain.jobs.retry_now import make_lane_due_now
from domain.lanes.lanes import disable_lane, endpoint_lane, open_lane, renew_lane, reopen_lane
from domain.stretch import Stretch
from domain.tables.events import events
from domain.tables.tenants import tenants
from domain.tables.webhooks import webhook_endpoints
from domain.tenants.config import read_config
from domain.tenants.config_rules import LEGACY_WEBHOOK_HEADERS, is_on
from domain.tenants.plan_rules import ENDPOINTS
from domain.vault import seal, unseal
from domain.versions import check_version

SECRET_BYTES = 32
_QUEUE = kind_of_class(DeliverWebhook).queue
#: One that subscribes to nothing is deleted, and only waits for what hangs on it to go: see `deletion`.
IS_THERE: ColumnElement[bool] = func.cardinality(webhook_endpoints.c.event_types) > 0


class RetryOverride(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An endpoint's own schedule in place of the kind's: waits double from `base_seconds` up to `cap_seconds`."""

    max_attempts: int
    base_seconds: float
    cap_seconds: float = 86_400.0


class Subscriber(msgspec.Struct, frozen=True):
    """What a delivery needs to know of its endpoint at this version; `secrets` are in the clear, newest first."""

    id: UUID
    version: int
    url: str
    secrets: list[bytes]
    retry: RetryOverride | None
    #: It still gets the X-Webhook-* headers beside the standard ones.
    older_headers: bool


# The lock is the tenant's, and lasts for the transaction: two at once count one after the other.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('longshore.endpoints'), hashtext(:tenant_id))")


def create_endpoint(
    tx: Connection, key: bytes, tenant_id: UUID, url: str, event_types: Sequence[str], retry: RetryOverride | None
) -> tuple[Row[Any], bytes]:
    """An endpoint with a fresh secret and an open lane. Answers the row and the secret, which is shown only here.

    Raises PlanExhausted when the tenant has as many as its plan buys.
    """
    _check_room(tx, tenant_id)
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


def _check_room(tx: Connection, tenant_id: UUID) -> None:
    tx.execute(_ONE_AT_A_TIME, {"tenant_id": str(tenant_id)})
    plan = tx.execute(select(tenants.c.plan).where(tenants.c.id == tenant_id)).scalar_one()
    count = select(func.count()).where(webhook_endpoints.c.tenant_id == tenant_id, IS_THERE)
    if tx.execute(count).scalar_one() >= ENDPOINTS[plan]:
        raise PlanExhausted(plan=plan, most=ENDPOINTS[plan], resource="webhook endpoints")


def get_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID) -> Row[Any]:
    """One endpoint. Raises NotFound, also for another tenant's."""
    row = tx.execute(select(webhook_endpoints).where(_is(tenant_id, endpoint_id))).first()
    if row is None:
        raise NotFound(resource="Webhook endpoint")
    return row


def list_endpoints(tx: Connection, tenant_id: UUID, stretch: Stretch) -> Sequence[Row[Any]]:
    """A stretch of the endpoints by id."""
    c = webhook_endpoints.c
    return tx.execute(stretch.of(select(webhook_endpoints).where(c.tenant_id == tenant_id, IS_THERE), c.id)).all()


def disable_endpoint(tx: Connection, tenant_id: UUID, endpoint_id: UUID, version: int, reason: str) -> bool:
    """The endpoint asked at this version not to be sent to any more: its lane is closed, what waits for it is held.

    False when its owner has changed it since, which a delivery under way does not know of: then it is left as it is.
    """
    c = webhook_endpoints.c
    it = _is(tenant_id, endpoint_id) & (c.version == version) & c.disabled_at.is_(None)
    values = {"disabled_at": text("clock_timestamp()"), "disabled_reason": reason, "version": version + 1}
    is_disabled = tx.execute(update(webhook_endpoints).where(it).values(values)).rowcount > 0
    if is_disabled:
        disable_lane(tx, endpoint_lane(endpoint_id))
    return is_disabled


def is_at_version(tx: Connection, tenant_id: UUID, endpoint_id: UUID, version: int) -> bool:
    """Whether the endpoint is still as it was when a delivery to it began."""
    c = webhook_endpoints.c
    query = select(c.id).where(_is(tenant_id, endpoint_id), c.version == version)
    return tx.execute(query).first() is not None


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

    What waits goes to the new address: at once, whatever pause the old one asked for, and whenever the next attempt was
    due; who gets an event was decided when it happened. Raises NotFound, or VersionConflict when it is at no version
    that was `seen`.
    """
    it = _is(tenant_id, endpoint_id)
    before = tx.execute(select(webhook_endpoints).where(it).with_for_update(key_share=True)).first()
    if before is None:
        raise NotFound(resource="Webhook endpoint")
    check_version("The webhook endpoint", before.version, seen)
    values = _values(wanted, before)
    if values:
        tx.execute(update(webhook_endpoints).where(it).values(**values, version=webhook_endpoints.c.version + 1))
        lane, is_moved = endpoint_lane(endpoint_id), "url" in values
        if is_moved:
            make_lane_due_now(tx, tenant_id, lane)
        _steer_lane(tx, lane, wanted.enabled, is_moved=is_moved)
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


def _steer_lane(tx: Connection, lane: str, enabled: bool | UnsetType, *, is_moved: bool) -> None:
    if enabled is True:
        reopen_lane(tx, lane)
    if enabled is False:
        disable_lane(tx, lane)
    if is_moved:
        renew_lane(tx, lane)


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
    retry = msgspec.convert(row.retry, RetryOverride | None)
    return Subscriber(row.id, row.version, row.url, secrets, retry, older)


def _is(tenant_id: UUID, endpoint_id: UUID) -> ColumnElement[bool]:
    c = webhook_endpoints.c
    return and_(c.tenant_id == tenant_id, c.id == endpoint_id, IS_THERE)


def get_event(tx: Connection, tenant_id: UUID, event_id: UUID) -> Row[Any]:
    """One event of this tenant. Raises NotFound."""
    row = tx.execute(select(events).where(events.c.tenant_id == tenant_id, events.c.id == event_id)).first()
    if row is None:
        raise NotFound(resource="Event")
    return row


def _place(endpoint_id: UUID) -> str:
    return f"webhook_endpoints.secrets:{endpoint_id}"
