"""Who is calling: an API key as `X-API-Key` or `Authorization: Bearer`, before anything else of the request is read."""

import hashlib
import time
from typing import Any

import anyio
import anyio.to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from sqlalchemy import Engine

from domain.errors import DependencyUnavailable, Forbidden, Unauthenticated
from domain.tenants.key_rules import KeyParts, parse_key
from domain.tenants.keys import Caller, find_caller

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
        return AuthenticationResult(user=await keys.caller(_presented(connection)), auth=None)


def _presented(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    key = connection.headers.get("x-api-key")
    if key is not None:
        return key
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def requires_admin(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: the caller's key has the scope `admin`. Raises Forbidden."""
    if "admin" not in connection.user.scopes:
        raise Forbidden(scope="admin")
