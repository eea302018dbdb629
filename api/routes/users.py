"""The people of a tenant. Whoever makes, changes or removes one must be above him; no answer shows a password."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Connection, Row

from api.bodies import Body, Email, NewPassword, PersonName
from api.conditions import IfMatch, entity_tag, versions_seen
from api.envelope import Page, Success
from api.log_ins import LogIns
from api.once import Once
from api.pages import Listing, PageNumber
from api.relay_bell import RelayBell
from api.requests import origin, refuse, trace_context
from api.ring import in_time
from api.tenant_database import TenantDatabase
from domain.audit import record_act
from domain.errors import Forbidden, NotAPerson, Violation
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import ANYBODY, PERMISSIONS, USERS_READ, USERS_WRITE, may_appoint
from domain.tenants.users import (
    CHANGEABLE,
    NewUser,
    change_user,
    count_users,
    create_user,
    delete_user,
    facts_of,
    facts_of_change,
    get_user,
    list_users,
)

Role = Literal["owner", "admin", "operator", "viewer"]
Permission = Annotated[str, Meta(max_length=100, extra_json_schema={"enum": sorted(PERMISSIONS)})]
Permissions = Annotated[list[Permission], Meta(max_length=50)]


class NewPerson(Body, frozen=True):
    """Somebody of this tenant; `permissions` are what he may do beyond his role."""

    email: Email
    password: NewPassword
    name: PersonName
    role: Role = "viewer"
    permissions: Permissions = msgspec.field(default_factory=list)


class PersonChange(Body, frozen=True):
    """What shall be otherwise; what is left out stays."""

    name: PersonName | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET


class UserView(Struct, rename="camel"):
    """One person."""

    id: UUID
    email: str
    name: str
    role: Role
    permissions: list[str]
    status: Literal["active", "disabled"]
    last_login_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


@post("/", summary="Create a user", permission=USERS_WRITE)
async def post_user(
    request: Request[Caller, Any, Any],
    data: JSONBody[NewPerson],
    once: NamedDependency[Once],
    log_ins: NamedDependency[LogIns],
    bell: NamedDependency[RelayBell],
) -> Response[Success[UserView]]:
    """201 with the person, who gets a mail of welcome; 409 when the tenant has the address already."""
    caller = request.user
    _check_permissions(data.permissions, caller)
    new = NewUser(
        email=data.email,
        name=data.name,
        role=data.role,
        permissions=data.permissions,
        password_hash=await log_ins.hashing.hash(data.password),
    )

    def create(tx: Connection) -> Response[Success[UserView]]:
        appoints = may_appoint(caller.role, caller.permissions)
        row = create_user(tx, caller.tenant_id, new, appoints, trace_context(request))
        _record(tx, request, "user.created", row.id, {"new": facts_of(row)})
        headers = {"Location": f"/api/v1/users/{row.id}", "ETag": _entity_tag(row)}
        return Response(Success(data=_show(row)), status_code=201, headers=headers)

    answer = await in_time(partial(once.answer, data, create))
    bell.ring()
    return answer


@get("/", summary="List users", permission=USERS_READ, sync_to_thread=True)
def get_users(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    listing: NamedDependency[Listing],
    page: PageNumber = None,
) -> Response[Page[UserView]]:
    """The tenant's people, by cursor or by the number of a page."""
    if page is None:
        stretch = listing.stretch()
        with database.connect() as connection:
            return listing.page(list_users(connection, caller.tenant_id, stretch), _show)
    stretch, before = listing.numbered_stretch(page)
    with database.connect() as connection:
        rows = list_users(connection, caller.tenant_id, stretch, before=before)
        total = count_users(connection, caller.tenant_id)
    return listing.numbered_page(page, total, rows, _show)


@get("/me", summary="Read oneself", permission=ANYBODY, sync_to_thread=True)
def get_me(caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]) -> Success[UserView]:
    """The person whose token this is; 403 for a key."""
    if caller.user_id is None:
        raise NotAPerson
    with database.connect() as connection:
        return Success(data=_show(get_user(connection, caller.tenant_id, caller.user_id)))


@get("/{user_id:str}", summary="Read a user", permission=USERS_READ, sync_to_thread=True)
def get_one_user(
    user_id: FromPath[UUID], caller: NamedDependency[Caller], database: NamedDependency[TenantDatabase]
) -> Response[Success[UserView]]:
    """One person."""
    with database.connect() as connection:
        return _answer(get_user(connection, caller.tenant_id, user_id))


@patch("/{user_id:str}", summary="Change a user", permission=USERS_WRITE, sync_to_thread=True)
def patch_user(
    request: Request[Caller, Any, Any],
    user_id: FromPath[UUID],
    data: JSONBody[PersonChange],
    database: NamedDependency[TenantDatabase],
    if_match: IfMatch = None,
) -> Response[Success[UserView]]:
    """The person as changed, in force within seconds; who is disabled is logged out. 409 for the last active owner."""
    caller = request.user
    wanted = {name: value for name in CHANGEABLE if (value := getattr(data, name)) is not UNSET}
    if "permissions" in wanted:
        _check_permissions(wanted["permissions"], caller)
        wanted["permissions"] = sorted(set(wanted["permissions"]))
    with database.begin() as tx:
        appoints = may_appoint(caller.role, caller.permissions)
        before, after = change_user(tx, caller.tenant_id, user_id, wanted, appoints, versions_seen(if_match))
        if facts := facts_of_change(before, after):
            _record(tx, request, "user.changed", user_id, facts)
    return _answer(after)


@delete("/{user_id:str}", summary="Delete a user", permission=USERS_WRITE, sync_to_thread=True)
def delete_one_user(
    request: Request[Caller, Any, Any],
    user_id: FromPath[UUID],
    database: NamedDependency[TenantDatabase],
    if_match: IfMatch = None,
) -> None:
    """204: the person is gone, and every log-in of his over. 409 for the last active owner."""
    caller = request.user
    with database.begin() as tx:
        appoints = may_appoint(caller.role, caller.permissions)
        row = delete_user(tx, caller.tenant_id, user_id, appoints, versions_seen(if_match))
        _record(tx, request, "user.removed", user_id, {"old": facts_of(row)})


def _check_permissions(permissions: Sequence[str], caller: Caller) -> None:
    """Nobody gives what he does not have."""
    refuse(
        *(
            Violation(f"permissions[{place}]", "is not a known permission", "UNKNOWN_PERMISSION")
            for place, name in enumerate(permissions)
            if name not in PERMISSIONS
        )
    )
    for name in sorted(set(permissions) - caller.permissions):
        raise Forbidden(permission=name)


def _record(
    tx: Any, request: Request[Caller, Any, Any], action: str, user_id: UUID, facts: dict[str, dict[str, Any]]
) -> None:
    caller = request.user
    record_act(tx, caller.tenant_id, caller.name, action, str(user_id), detail={**facts, **origin(request)})


def _answer(row: Row[Any]) -> Response[Success[UserView]]:
    return Response(Success(data=_show(row)), headers={"ETag": _entity_tag(row)})


def _entity_tag(row: Row[Any]) -> str:
    return entity_tag(row.version, [row.last_login_at])  # a log-in makes no new version


def _show(row: Row[Any]) -> UserView:
    return msgspec.convert(row, UserView, from_attributes=True)


router = Router(
    "/users",
    route_handlers=[post_user, get_users, get_me, get_one_user, patch_user, delete_one_user],
    tags=["Users"],
)
