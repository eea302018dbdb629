"""Who is calling: an API key as `X-API-Key`, or a key or a person's access token as `Authorization: Bearer`.

It is asked before anything else of the request is read.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.exceptions import ValidationException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from api.key_ring import KeyRing
from api.strangers import Strangers, address_of
from api.token_ring import TokenRing
from domain.errors import Forbidden, TenantMismatch, TokenExpired, Unauthenticated
from domain.tenants.callers import Caller
from domain.tenants.key_rules import PREFIX
from domain.tenants.permission_rules import ANYBODY

Connection = ASGIConnection[Any, Any, Any, Any]

_CREDENTIALS = frozenset({b"x-api-key", b"authorization"})


class Authentication(AbstractAuthenticationMiddleware):
    """401 wins over everything else that is wrong with a request."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        strangers: Strangers = connection.app.state.strangers
        try:
            caller = await _caller(connection, partial(strangers.refuse_if_turned_away, address_of(connection)))
        except (Unauthenticated, TokenExpired):
            await strangers.count(address_of(connection))
            raise
        named = named_tenant(connection)
        if named is not None and named != caller.tenant_id:
            raise TenantMismatch
        return AuthenticationResult(user=caller, auth=None)


async def _caller(connection: Connection, may_ask: Callable[[], None]) -> Caller:
    keys: KeyRing = connection.app.state.key_ring
    tokens: TokenRing = connection.app.state.token_ring
    shown = [(name, value) for name, value in connection.scope["headers"] if name in _CREDENTIALS]
    credentials = {name: value.decode("latin-1") for name, value in shown}
    if len(credentials) < len(shown):
        raise Unauthenticated  # of two, whoever looked at the request on the way may have judged the other one
    key = credentials.get(b"x-api-key")
    if key is not None:
        return await keys.caller(key, may_ask)
    scheme, _, word = credentials.get(b"authorization", "").partition(" ")
    bearer = word.strip() if scheme.lower() == "bearer" else ""
    return await (keys.caller(bearer, may_ask) if bearer.startswith(PREFIX) else tokens.caller(bearer))


def named_tenant(connection: Connection) -> UUID | None:
    """The tenant that X-Tenant-ID names, if it is there. Raises ValidationException."""
    named = connection.headers.get("x-tenant-id")
    try:
        found = None if named is None else UUID(named)
    except ValueError:
        found = None
    if named is not None and str(found) != named.lower():  # UUID takes other spellings too
        raise ValidationException(extra=[{"key": "X-Tenant-ID", "message": "must be a UUID with its dashes"}])
    return found


def permit(request: Connection) -> None:
    """The caller has the permission that the route names. Raises Forbidden.

    Which methods a route has is nobody's secret: OPTIONS is answered to whoever asks.
    """
    if request.scope.get("method") == "OPTIONS":
        return
    needed = request.route_handler.opt["permission"]
    if needed != ANYBODY and needed not in request.user.permissions:
        raise Forbidden(permission=needed)
