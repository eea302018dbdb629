"""The only door for outbound HTTP: nothing leaves for a forbidden address, and no endpoint can hold, flood or break us.

Every address is judged twice: all answers of a name before one is used, and the concrete one when its socket is made,
which is what counts (it sees literals and names that were re-pointed in between). Redirects, proxies from the
environment, cookies and compression are off; one deadline covers everything from the look-up to the last byte read.
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.webhooks.address_rules import Network, forbidden
from domain.webhooks.answer_rules import Answer, ErrorCode
from workers.clients.look_ups import SystemResolver

READ_MAX_BYTES = 16_384
KEPT_BODY_BYTES = 4_096
KEPT_HEADER_CHARS = 2_048

_OUR_OWN_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
#: The first that fits: aiohttp's classes inherit from each other and from OSError.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (aiohttp.ConnectionTimeoutError, "timeout_connect"),
    (TimeoutError, "timeout_total"),
    (aiohttp.ClientSSLError, "tls_error"),
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientConnectorError, "connect_error"),
    (aiohttp.InvalidURL, "invalid_url"),
    (aiohttp.NonHttpUrlClientError, "invalid_url"),
    (aiohttp.ClientConnectionError, "connection_lost"),
    (aiohttp.ClientError, "invalid_response"),
    (OSError, "connection_lost"),
)
_log = structlog.get_logger()


class BlockedAddress(OSError):
    """The address rule forbids this destination. Carries no address, so none can reach a log or a subscriber."""

    def __init__(self) -> None:
        super().__init__("the destination is forbidden")


class GuardedHttp:
    """One client for one event loop; made cheaply, connects on first use. Connections are kept alive between posts.

    `allowed_networks` are the operator's exceptions from the address rule. `connection_age_s` bounds how long a name
    is taken to mean the address it meant when we connected. `resolver` and `ssl_context` replace the system's look-up
    and the system's certificate authorities; neither escapes the guard.
    """

    def __init__(
        self,
        allowed_networks: Sequence[Network] = (),
        total_timeout_s: float = 15.0,
        connect_timeout_s: float = 5.0,
        user_agent: str = "Longshore/0.1 (webhooks)",
        *,
        connection_age_s: float = 60.0,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._total_timeout_s = total_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._user_agent = user_agent
        self._connection_age_s = connection_age_s
        self._resolver = _JudgingResolver(resolver or SystemResolver(), self._allowed)
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._pools: list[_Pool] = []

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], total_timeout_s: float | None = None
    ) -> Answer:
        """Post once and tell what came back; whatever the endpoint does is an Answer, never an exception.

        Done within `total_timeout_s` (default: the client's). Raises ValueError for a header of ours with a line break
        (RFC 9110, 5.5), and CancelledError when cancelled.
        """
        if any(set(name + value) & {"\r", "\n", "\0"} for name, value in headers.items()):
            raise ValueError("a header contains a line break")
        started, seen, error = time.monotonic(), _Seen(), None
        pool = self._enter_pool()
        try:
            async with asyncio.timeout(self._total_timeout_s if total_timeout_s is None else total_timeout_s):
                await _exchange(pool.session, url, body, headers, seen)
        except Exception as failure:  # noqa: BLE001  # the endpoint chooses what we trip over
            error = _error_code(failure)
        finally:
            await self._leave_pool(pool)
        return seen.answer(error, round((time.monotonic() - started) * 1000))

    async def close(self) -> None:
        """Close every connection; posts under way end as `connection_lost`. The client may be used again afterwards."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.session.close()
        await self._resolver.close()

    def _enter_pool(self) -> "_Pool":
        # A connection in constant use would otherwise live for ever, and with it an address judged long ago.
        now = time.monotonic()
        if not self._pools or now - self._pools[-1].born_at >= self._connection_age_s:
            self._pools.append(_Pool(self._new_session(), now))
        self._pools[-1].posts += 1
        return self._pools[-1]

    async def _leave_pool(self, pool: "_Pool") -> None:
        pool.posts -= 1
        retired = [old for old in self._pools[:-1] if old.posts == 0]
        self._pools = [kept for kept in self._pools if kept not in retired]
        for old in retired:
            await old.session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        connector = aiohttp.TCPConnector(
            socket_factory=self._open_socket,
            resolver=self._resolver,
            ssl=self._ssl_context,
            limit=0,  # lanes limit what is in flight; a queue in here would eat the deadline of the innocent
            ttl_dns_cache=10,
            keepalive_timeout=30,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=READ_MAX_BYTES,
            trace_configs=[trace],
        )

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if forbidden(host, self._allowed):
            raise BlockedAddress
        return socket.socket(family, kind, protocol)


class _Pool:
    """The connections opened during one period, and how many posts are using them."""

    def __init__(self, session: aiohttp.ClientSession, born_at: float) -> None:
        self.session = session
        self.born_at = born_at
        self.posts = 0


class _Seen:
    """What has come back so far: it outlives the failure that ends the exchange."""

    def __init__(self) -> None:
        self.reused_connection = False
        self.response: aiohttp.ClientResponse | None = None
        self.body = bytearray()

    def answer(self, error: ErrorCode | None, duration_ms: int) -> Answer:
        if self.response is None:
            return Answer(error=error, duration_ms=duration_ms)
        headers = self.response.headers
        # Whoever sits on the path can write into a plain reply, and must not be able to turn an endpoint off.
        control = headers.getall("webhook-delivery", []) if self.response.url.scheme == "https" else []
        return Answer(
            status=self.response.status,
            error=error,
            retry_after=_header(headers.get("Retry-After")),
            control=_header(",".join(control) or None),
            duration_ms=duration_ms,
            body=bytes(self.body[:KEPT_BODY_BYTES]).decode("utf-8", "replace").replace("\0", ""),
            location=_header(headers.get("Location")),
        )


class _JudgingResolver(AbstractResolver):
    """Refuses a name if any of its addresses is forbidden: picking the good ones would trust who mixed them."""

    def __init__(self, source: AbstractResolver, allowed: Sequence[Network]) -> None:
        self._source = source
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await self._source.resolve(host, port, family)
        except UnicodeError as failure:
            raise OSError("the name cannot be looked up") from failure
        if not found:
            raise OSError("the name has no address")
        if any(forbidden(result["host"], self._allowed) for result in found):
            raise BlockedAddress
        return found

    async def close(self) -> None:
        await self._source.close()


async def _exchange(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], seen: _Seen
) -> None:
    try:
        await _send(session, url, body, headers, seen)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        # The server closed an idle connection just as we used it: its right (RFC 9112, 9.3.1), and no failed attempt.
        if seen.response is not None or not seen.reused_connection:
            raise
        await _send(session, url, body, headers, seen)


async def _send(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], seen: _Seen) -> None:
    async with session.post(url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=seen) as response:
        seen.response = response
        while (room := READ_MAX_BYTES - len(seen.body)) > 0:
            chunk = await response.content.read(room)
            if not chunk:
                return
            seen.body += chunk
        response.close()  # not released: nobody knows how much more would come


async def _note_reuse(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused_connection = True


def _error_code(failure: Exception) -> ErrorCode:
    """The stable code of a failed exchange. It names a kind of failure and never an address."""
    cause = getattr(failure, "os_error", None) or failure.__cause__
    if isinstance(cause, BlockedAddress):
        return "blocked_address"
    if isinstance(cause, ssl.SSLError):
        return "tls_error"
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno in _OUR_OWN_FAULTS:
        return "local_error"
    for kind, code in _CODES:
        if isinstance(failure, kind):
            return code
    _log.warning("webhook.unforeseen_failure", error_class=type(failure).__name__)
    return "invalid_response"


def _header(value: str | None) -> str | None:
    # aiohttp keeps bytes that are not UTF-8 as lone surrogates, which PostgreSQL refuses.
    return None if value is None else value[:KEPT_HEADER_CHARS].encode("utf-8", "replace").decode()
