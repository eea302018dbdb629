"""Every request seen from outside the router, 404, 405, 413 and 500 included: its id, its log line, its time."""

import re
import time
from functools import cache
from typing import Any

from litestar import Litestar
from litestar.types import Message
from prometheus_client import Counter, Histogram
from structlog.contextvars import bind_contextvars, clear_contextvars

from api.browser_headers import SECURITY_HEADERS
from api.deprecation import deprecation_headers
from api.head import as_get, with_head
from api.proxies import Networks, origin_of
from domain.ids import new_id
from ops.telemetry import HTTP_DURATION, HTTP_REQUESTS, log

logger = log(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
#: Any other method is one label, or strangers could make a time series each.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Probes come every few seconds and say nothing new.
_QUIET = ("/livez", "/readyz", "/health", "/ready", "/metrics")


class Api(Litestar):
    """Litestar with an observer around it."""

    #: Those in front of it, which say whom they speak for.
    proxies: Networks = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        started, method = time.perf_counter(), scope["method"]
        if method == "HEAD":
            receive, send = as_get(scope, receive, send)
        if self.proxies and scope.get("client"):
            scope["client"] = (_origin(scope, self.proxies), 0)
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {}).update(request_id=request_id, arrived_at=started)
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        status, answered = 500, None

        async def observed(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                echoed = request_id.encode()
                message["headers"] = [
                    *with_head(message.get("headers", [])),
                    *SECURITY_HEADERS,
                    *deprecation_headers(scope),
                    *(standing.headers() if (standing := scope["state"].get("standing")) else ()),
                    (b"x-request-id", echoed),
                    (b"x-correlation-id", echoed),
                ]
            await send(message)

        try:
            await super().__call__(scope, receive, observed)
        finally:
            # To the answer's start: a stream ends when its listener has heard enough.
            _record(method, scope, status, (answered or time.perf_counter()) - started)


def _origin(scope: Any, trusted: Networks) -> str:
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return origin_of(scope["client"][0], forwarded, trusted)


def request_id_of(headers: Any) -> str:
    """The caller's request or correlation id if it is well-formed, else a fresh one."""
    given = dict(headers)
    for name in (b"x-request-id", b"x-correlation-id"):
        if _REQUEST_ID.fullmatch(given.get(name, b"")):
            return str(given[name], "ascii")
    return str(new_id())


@cache  # routes are templates, methods and statuses are few
def _requests(method: str, route: str, status: int) -> Counter:
    return HTTP_REQUESTS.labels(method, route, str(status))


@cache
def _duration(method: str, route: str) -> Histogram:
    return HTTP_DURATION.labels(method, route)


def _record(asked: str, scope: Any, status: int, seconds: float) -> None:
    # The template, never the raw path: ids in a label would make a time series per order.
    route = scope.get("path_template") or "unmatched"
    method = asked if asked in _METHODS else "_OTHER"
    _requests(method, route, status).inc()
    _duration(method, route).observe(seconds)
    if route.startswith(_QUIET):
        return
    caller = scope.get("user")
    logger.info(
        "http_request",
        requestId=scope["state"]["request_id"],
        correlationId=scope["state"]["request_id"],
        method=asked,
        url=scope["path"],
        route=route,
        statusCode=status,
        duration=round(seconds * 1000, 2),
        ip=(scope.get("client") or ("",))[0],
        userAgent=dict(scope["headers"]).get(b"user-agent", b"").decode("latin-1")[:200],
        tenantId=str(caller.tenant_id) if caller else None,
    )
