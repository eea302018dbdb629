"""Limits on those who have proved nothing yet, by their address: who guesses keys, tokens or passwords is slowed down.

Whoever shows a key that was good when it was looked at last, or a token that we have signed, is no stranger: a bad
neighbour behind the same address does not stop him.
"""

import hashlib
import time
from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.limits import Policy, RateLimiter, Standing, refused

#: How often one address may try one account.
LOG_IN = Policy("login", 5, 60)
_MOST_REMEMBERED = 10_000


class Strangers:
    """One per API process. `policy`: how often an address may fail to prove who it is, or come to the entrance."""

    def __init__(self, limiter: RateLimiter, policy: Policy) -> None:
        self._limiter, self._policy = limiter, policy
        self._turned_away: dict[str, tuple[float, Standing]] = {}

    def refuse_if_turned_away(self, address: str) -> None:
        """Asks nobody. Raises RateLimited for an address that has used up its tries, until it has some again."""
        until, standing = self._turned_away.get(address, (0.0, None))
        if standing is not None and time.monotonic() < until:
            raise refused(standing)

    async def count(self, address: str) -> Standing:
        """One try more of this address. Raises RateLimited when it had none left."""
        standing = await self._limiter.take(self._policy, address)
        if not standing.is_granted:
            if len(self._turned_away) >= _MOST_REMEMBERED:
                self._turned_away.clear()
            self._turned_away[address] = time.monotonic() + standing.more_in_s, standing
            raise refused(standing)
        return standing

    async def count_log_in(self, address: str, email: str) -> None:
        """One try more of this address with this account. Raises RateLimited when it had none left."""
        pair = hashlib.sha256(f"{address}\n{email}".encode()).hexdigest()[:32]  # no e-mail address goes to Redis
        standing = await self._limiter.take(LOG_IN, pair)
        if not standing.is_granted:
            raise refused(standing)


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Where a connection comes from."""
    return connection.client.host if connection.client else ""


class PerAddress(ASGIMiddleware):
    """Each request to the entrance counts as a try. Raises RateLimited."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        strangers: Strangers = scope["litestar_app"].state.strangers
        scope["state"]["standing"] = await strangers.count((scope.get("client") or ("",))[0])
        await next_app(scope, receive, send)
