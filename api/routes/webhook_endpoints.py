"""Webhook endpoints: where a tenant wants its events delivered, and the secret they are signed with."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, Response, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Connection, Row

from api.bodies import Body
from api.conditions import IfMatch, entity_tag, versions_seen
from api.envelope import Page, Success
from api.once import Once
from api.pages import Listing
from api.relay_bell import RelayBell
from api.requests import origin, refuse
from api.tenant_database import TenantDatabase
from domain.audit import difference, record_act
from domain.errors import Violation
from domain.event_types import EVENT_TYPES
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import WEBHOOKS_READ, WEBHOOKS_WRITE
from domain.webhooks.address_rules import url_problem
from domain.webhooks.deletion import delete_endpoint
from domain.webhooks.endpoints import (
    EndpointChange,
    RetryOverride,
    change_endpoint,
    create_endpoint,
    endpoint_facts,
    get_endpoint,
    list_endpoints,
)
from domain.webhooks.signature_rules import secret_text
from ops.settings import Settings

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
EventType = Annotated[str, Meta(max_length=100, extra_json_schema={"enum": ["*", *EVENT_TYPES]})]
EventTypes = Annotated[list[EventType], Meta(min_length=1, max_length=50)]


class NewRetry(Body, frozen=True):
    """A schedule of the endpoint's own: waits double from `baseSeconds` to `capSeconds`."""

    max_attempts: Annotated[int, Meta(ge=1, le=50)]
    base_seconds: Annotated[float, Meta(ge=0.1, le=86_400)]
    cap_seconds: Annotated[float, Meta(ge=0.1, le=604_800)] = 86_400.0


class NewEndpoint(Body, frozen=True):
    """An endpoint; `eventTypes` as in the catalogue of events, or `*` for all of them."""

    url: Url
    event_types: EventTypes
    retry: NewRetry | None = None


class EndpointChanges(Body, frozen=True):
    """What shall be different; what is left out stays as it is. `retry` null = the usual schedule again."""

    url: Url | UnsetType = UNSET
    event_types: EventTypes | UnsetType = UNSET
    retry: NewRetry | UnsetType | None = UNSET
    status: Literal["enabled", "disabled"] | UnsetType = UNSET


class EndpointView(Struct, rename="camel"):
    """One endpoint, without its secret."""

    id: UUID
    url: str
    event_types: list[str]
    status: Literal["enabled", "disabled"]
    disabled_reason: str | None
    version: int
    created_at: datetime


class CreatedEndpoint(Struct, rename="camel"):
    """A new endpoint, with the secret that is shown this once."""

    id: UUID
    url: str
    event_types: list[str]
    status: Literal["enabled", "disabled"]
    version: int
    created_at: datetime
    secret: str


@post("/", summary="Create a webhook endpoint", permission=WEBHOOKS_WRITE, sync_to_thread=True)
def post_endpoint(
    request: Request[Caller, Any, Any],
    data: JSONBody[NewEndpoint],
    once: NamedDependency[Once],
    settings: NamedDependency[Settings],
) -> Response[Success[CreatedEndpoint]]:
    """201 with the endpoint and its signing secret (`whsec_...`, Standard Webhooks); 409 when the plan has no more."""
    _check(data, settings)
    retry = _retry(data.retry)

    def create(tx: Connection) -> Response[Success[CreatedEndpoint]]:
        row, secret = create_endpoint(
            tx, settings.secret_bytes, request.user.tenant_id, data.url, data.event_types, retry
        )
        _record(tx, request, "webhook_endpoint.created", row.id, {"new": endpoint_facts(row)})
        shown = CreatedEndpoint(
            row.id, row.url, list(row.event_types), "enabled", row.version, row.created_at, secret_text(secret)
        )
        headers = {"Location": f"/api/v1/webhook-endpoints/{row.id}", "Cache-Control": "no-store"}
        headers["ETag"] = entity_tag(row.version)
        return Response(Success(data=shown), status_code=201, headers=headers)

    return once.answer(data, create)


@get("/", summary="List webhook endpoints", permission=WEBHOOKS_READ, sync_to_thread=True)
def get_endpoints(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
) -> Response[Page[EndpointView]]:
    """The tenant's endpoints."""
    stretch = listing.stretch()
    with database.connect() as connection:
        rows = list_endpoints(connection, caller.tenant_id, stretch)
    return listing.page(rows, _show)


@get("/{endpoint_id:str}", summary="Read a webhook endpoint", permission=WEBHOOKS_READ, sync_to_thread=True)
def get_one_endpoint(
    endpoint_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Response[Success[EndpointView]]:
    """One endpoint, without its secret."""
    with database.connect() as connection:
        row = get_endpoint(connection, caller.tenant_id, endpoint_id)
    return Response(Success(data=_show(row)), headers={"ETag": entity_tag(row.version)})


@patch("/{endpoint_id:str}", summary="Change a webhook endpoint", permission=WEBHOOKS_WRITE, sync_to_thread=True)
def patch_endpoint(
    request: Request[Caller, Any, Any],
    endpoint_id: FromPath[UUID],
    data: JSONBody[EndpointChanges],
    database: NamedDependency[TenantDatabase],
    settings: NamedDependency[Settings],
    bell: NamedDependency[RelayBell],
    if_match: IfMatch = None,
) -> Response[Success[EndpointView]]:
    """The endpoint as it is then. Enabled again, it gets what was held meanwhile. The audit log has what it was."""
    _check(data, settings)
    retry = data.retry if data.retry is UNSET else _retry(data.retry)
    enabled = data.status if data.status is UNSET else data.status == "enabled"
    wanted = EndpointChange(data.url, data.event_types, retry, enabled)
    with database.begin() as tx:
        before, row = change_endpoint(tx, request.user.tenant_id, endpoint_id, wanted, versions_seen(if_match))
        if facts := difference(endpoint_facts(before), endpoint_facts(row)):
            _record(tx, request, "webhook_endpoint.changed", endpoint_id, facts)
    bell.ring_from_thread()
    return Response(Success(data=_show(row)), headers={"ETag": entity_tag(row.version)})


@delete("/{endpoint_id:str}", summary="Delete a webhook endpoint", permission=WEBHOOKS_WRITE, sync_to_thread=True)
def delete_one_endpoint(
    request: Request[Caller, Any, Any],
    endpoint_id: FromPath[UUID],
    database: NamedDependency[TenantDatabase],
    if_match: IfMatch = None,
) -> None:
    """204: the endpoint is gone, and what still waited for it is cancelled; the last of very much within the hour."""
    with database.begin() as tx:
        delete_endpoint(tx, request.user.tenant_id, endpoint_id, versions_seen(if_match))
        _record(tx, request, "webhook_endpoint.deleted", endpoint_id, {})


def _record(
    tx: Connection, request: Request[Caller, Any, Any], action: str, endpoint_id: UUID, facts: dict[str, Any]
) -> None:
    caller = request.user
    record_act(tx, caller.tenant_id, caller.name, action, str(endpoint_id), detail={**facts, **origin(request)})


def _retry(given: NewRetry | None) -> RetryOverride | None:
    return None if given is None else RetryOverride(given.max_attempts, given.base_seconds, given.cap_seconds)


def _check(endpoint: NewEndpoint | EndpointChanges, settings: Settings) -> None:
    unknown = [
        Violation(f"eventTypes[{position_}]", "is not a known event type", "UNKNOWN_EVENT_TYPE")
        for position_, name in enumerate(endpoint.event_types or [])
        if name != "*" and name not in EVENT_TYPES
    ]
    problem = None if endpoint.url is UNSET else _url_problem(endpoint.url, settings)
    refuse(*unknown, *([Violation("url", problem, "UNSAFE_URL")] if problem else []))


def _url_problem(url: str, settings: Settings) -> str | None:
    return url_problem(
        url,
        allow_http=settings.webhook_allow_http,
        allow_private_names=settings.webhook_allow_http,
        allowed=settings.allowed_networks,
    )


def _show(row: Row[Any]) -> EndpointView:
    return EndpointView(
        id=row.id,
        url=row.url,
        event_types=list(row.event_types),
        status="enabled" if row.disabled_at is None else "disabled",
        disabled_reason=row.disabled_reason,
        version=row.version,
        created_at=row.created_at,
    )


router = Router(
    "/webhook-endpoints",
    route_handlers=[post_endpoint, get_endpoints, get_one_endpoint, patch_endpoint, delete_one_endpoint],
    tags=["Webhook endpoints"],
)
