"""What pollers and caches are told by every answer to a GET: whose it is, its ETag, and 304 for who has it already.

RFC 9110, 8.8.3 and 13.1.2; RFC 9111. The ETag is the handler's own, or the digest of the body: both are strong.
"""

import hashlib
from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.conditions import has_seen

#: Kept by the caller alone, and asked about each time. Handlers that show secrets say `no-store` instead.
_KEPT = "private, no-cache"
#: A shared cache knows that `Authorization` makes an answer somebody's own; of `X-API-Key` it must be told.
_VARY = "Authorization, X-API-Key, Accept"


class Freshness(ASGIMiddleware):
    """For routes whose answers depend on who asks."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        await next_app(scope, receive, _fresh(scope, send) if scope["method"] == "GET" else send)


def _fresh(scope: Scope, send: Send) -> Send:
    held: Any = None  # the start of an answer whose body decides what it says

    async def fresh(message: Any) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            headers = _told(message)
            if message["status"] == 200 and headers.get("content-type", "").startswith("application/json"):
                held = message
                return
        elif held is not None:
            start, held = held, None
            message["body"] = _body_unless_seen(scope, start, message["body"])
            await send(start)
        await send(message)

    return fresh


def _told(start: Any) -> MutableScopeHeaders:
    headers = MutableScopeHeaders.from_message(start)
    headers.setdefault("cache-control", _KEPT)
    more = headers.get("vary")
    headers["vary"] = f"{_VARY}, {more}" if more else _VARY
    return headers


def _body_unless_seen(scope: Scope, start: Any, body: bytes) -> bytes:
    headers = MutableScopeHeaders.from_message(start)
    tag = headers.setdefault("etag", f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    seen = dict(scope["headers"]).get(b"if-none-match")
    if seen is None or not has_seen(seen.decode("latin-1"), tag):
        return body
    start["status"] = 304
    for name in ("content-type", "content-length"):
        del headers[name]
    return b""
