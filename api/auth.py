"""Who is calling: an API key as `X-API-Key` or `Authorization: Bearer`, before anything else of the request is read."""

import hashlib
import time
from typing import Any
from uuid import UUID

import anyio
import anyio.to_thread
from litestar.connection import ASGIConnection
from litestar.exceptions import ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from sqlalchemy import Engine

from domain.errors import DependencyUnavailable, Forbidden, TenantMismatch, Unauthenticated
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts, parse_key
from domain.tenants.keys import find_caller
from domain.tenants.permission_rules import ANYBODY

#: A revoked or expired key still opens for this long: the price of not asking PostgreSQL on every request.
REMEMBER_S = 5.0
_MOST_REMEMBERED = 10_000
#: A frozen PostgreSQL answers nothing, not even an error.
_LOOK_UP_WITHIN_S = 2.0


class KeyRing:
    """Looks keys up, and remembers the answer for a few seconds. Unknown keys are not remembered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[bytes, tuple[float, Caller]] = {}  # by hash: no key is kept

    async def caller(self, key: str) -> Caller:
        """Who this key speaks for. Raises Unauthenticated, or DependencyUnavailable when nobody can tell in time."""
        hashed = hashlib.sha256(key.encode()).digest()
        remembered = self._known.get(hashed)
        if remembered is not None and time.monotonic() - remembered[0] < REMEMBER_S:
            return remembered[1]
        parts = parse_key(key)
        if parts is None:
            raise Unauthenticated
        try:
            with anyio.fail_after(_LOOK_UP_WITHIN_S):
                found = await anyio.to_thread.run_sync(self._find, parts, abandon_on_cancel=True)
        except TimeoutError:
            raise DependencyUnavailable from None
        if found is None:
            self._known.pop(hashed, None)
            raise Unauthenticated
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[hashed] = (time.monotonic(), found)
        return found

    def _find(self, parts: KeyParts) -> Caller | None:
        with self._engine.begin() as tx:
            return find_caller(tx, parts)


class KeyAuthentication(AbstractAuthenticationMiddleware):
    """401 wins over everything else that is wrong with a request."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        keys: KeyRing = connection.app.state.key_ring
        caller = await keys.caller(_presented(connection))
        _check_tenant(connection, caller)
        return AuthenticationResult(user=caller, auth=None)


def _presented(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    key = connection.headers.get("x-api-key")
    if key is not None:
        return key
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_tenant(connection: ASGIConnection[Any, Any, Any, Any], caller: Caller) -> None:
    """Who names a tenant besides means the one of his key or token."""
    named = connection.headers.get("x-tenant-id")
    if named is None:
        return
    try:
        tenant_id = UUID(named)
    except ValueError:
        raise ValidationException(extra=[{"key": "X-Tenant-ID", "message": "must be a UUID"}]) from None
    if tenant_id != caller.tenant_id:
        raise TenantMismatch


def permitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of every business route: the caller has the permission that the route names. Raises Forbidden."""
    needed = handler.opt["permission"]
    if needed != ANYBODY and needed not in connection.user.permissions:
        raise Forbidden(permission=needed)
