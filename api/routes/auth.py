"""People log in, stay in and leave; a forgotten password is replaced. Only leaving takes a token of access."""

from typing import Annotated, Any

import anyio
from litestar import Request, Router, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.auth import named_tenant
from api.bodies import Body, Email, NewPassword, Password
from api.envelope import Success
from api.log_ins import LogIns, Tokens
from api.relay_bell import RelayBell
from api.requests import NamedTenant, origin, trace_context
from api.ring import in_time
from api.strangers import Strangers, address_of
from api.tenant_database import TenantDatabase, TenantDatabases
from api.token_ring import TokenRing
from domain.audit import record_act
from domain.errors import NotAPerson
from domain.job_kinds import MailPasswordReset
from domain.jobs.outbox import enqueue, new_job
from domain.tenants.callers import Caller
from domain.tenants.log_ins import Door
from domain.tenants.permission_rules import ANYBODY
from domain.tenants.refresh_tokens import end_family

#: Longer than it takes to find somebody and ask for his mail: the answer comes then, whether there is anybody or not.
ANSWER_AFTER_S = 0.5

Token = Annotated[str, Meta(min_length=1, max_length=200)]


class LogIn(Body, frozen=True):
    """Who somebody says he is, and his proof."""

    email: Email
    password: Password


class Refresh(Body, frozen=True):
    """The refresh token that came last."""

    refresh_token: Token


class Forgotten(Body, frozen=True):
    """Whose password is forgotten."""

    email: Email


class NewPasswordByToken(Body, frozen=True):
    """A password, and the token that was mailed."""

    token: Token
    password: NewPassword


class Notice(Struct):
    """What is said whether the address is known or not."""

    message: str


@post("/login", summary="Log in", status_code=200)
async def post_login(
    request: Request[Any, Any, Any],
    data: JSONBody[LogIn],
    log_ins: NamedDependency[LogIns],
    strangers: NamedDependency[Strangers],
    x_tenant_id: NamedTenant = None,  # noqa: ARG001  # declared for the document
) -> Success[Tokens]:
    """Tokens. The tenant is that of X-Tenant-ID, else that of the host, else the only one that has this address.

    423 after five failures in a row.
    """
    email = data.email
    await strangers.count_log_in(address_of(request), email)
    return Success(data=await log_ins.log_in(email, data.password, _door(request), origin(request)))


@post("/refresh", summary="Replace the tokens", status_code=200)
async def post_refresh(
    request: Request[Any, Any, Any], data: JSONBody[Refresh], log_ins: NamedDependency[LogIns]
) -> Success[Tokens]:
    """Tokens, in place of those before. A refresh token is good once; its second use ends the log-in."""
    return Success(data=await log_ins.refresh(data.refresh_token, origin(request)))


@post("/logout", summary="Log out", permission=ANYBODY, status_code=204)
async def post_logout(
    request: Request[Caller, Any, Any],
    database: NamedDependency[TenantDatabase],
    token_ring: NamedDependency[TokenRing],
) -> None:
    """204: the log-in that the access token belongs to is over, its refresh tokens too."""
    caller, family = request.user, request.user.family
    if family is None:
        raise NotAPerson

    def end() -> None:
        with database.begin() as tx:
            end_family(tx, caller.tenant_id, family)
            record_act(
                tx, caller.tenant_id, caller.name, "user.logged_out", str(caller.user_id), detail=origin(request)
            )

    await in_time(end)
    token_ring.forget(family)


@post("/password-reset", summary="Ask for a new password", status_code=202)
async def post_password_reset(  # dependencies by name
    request: Request[Any, Any, Any],
    data: JSONBody[Forgotten],
    log_ins: NamedDependency[LogIns],
    databases: NamedDependency[TenantDatabases],
    bell: NamedDependency[RelayBell],
    x_tenant_id: NamedTenant = None,  # noqa: ARG001  # declared for the document
) -> Success[Notice]:
    """202, always: a mail with a token is on its way to this address, if it is that of a person here."""
    answer_at = anyio.current_time() + ANSWER_AFTER_S
    email, door, trace = data.email, _door(request), trace_context(request)

    def ask() -> None:
        person = log_ins.find(email, door)
        if person is None:
            return
        with databases(person.tenant_id).begin() as tx:
            enqueue(tx, [new_job(MailPasswordReset(person.id), tenant_id=person.tenant_id, trace_context=trace)])
        bell.ring_from_thread()

    await in_time(ask)
    await anyio.sleep_until(answer_at)
    return Success(data=Notice("If somebody here has this address, a mail is on its way."))


@post("/password-reset/confirm", summary="Set a new password", status_code=204)
async def post_password_reset_confirm(
    request: Request[Any, Any, Any], data: JSONBody[NewPasswordByToken], log_ins: NamedDependency[LogIns]
) -> None:
    """204: the password is set, the token used up, every log-in of the person over."""
    await log_ins.reset_password(data.token, data.password, origin(request))


def _door(request: Request[Any, Any, Any]) -> Door:
    return Door(named_tenant(request), request.url.hostname or "")


_NO_STORE = {"Cache-Control": "no-store"}  # RFC 6749, section 5.1
#: For whoever has nothing to show yet.
router = Router(
    "/auth",
    route_handlers=[post_login, post_refresh, post_password_reset, post_password_reset_confirm],
    response_headers=_NO_STORE,
    tags=["Log-ins"],
)
leaving = Router("/auth", route_handlers=[post_logout], response_headers=_NO_STORE, tags=["Log-ins"])
