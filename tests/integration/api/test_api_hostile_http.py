"""Requests that no client library would send: to the real server over sockets, and to the application."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from litestar import Request
from litestar.exceptions import ValidationException
from litestar.routes import HTTPRoute

from api.gate import refuse_repeated_headers
from tests.integration.api.served import Served, served
from tests.integration.api.shop import Customer, Shop

ORDER = b'{"customerEmail":"ada@example.com","currency":"USD","lines":[{"sku":"MUG","quantity":1}]}'


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Served]:
    with served(shop.settings) as running:
        yield running


@pytest.fixture
def stocked(customer: Customer) -> Customer:
    customer.stocked("MUG")
    return customer


def _talk(server: Served, *parts: bytes) -> bytes:
    """What the server says to these bytes, sent one after the other, until it is done or nothing comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        with suppress(BrokenPipeError, ConnectionResetError):  # it need not listen to the end
            for part in parts:
                line.sendall(part)
        said = b""
        with suppress(TimeoutError, ConnectionResetError):
            while chunk := line.recv(65_536):
                said += chunk
                if _is_whole(said):
                    break
        return said


def _is_whole(said: bytes) -> bool:
    head, _, body = said.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(lengths) and len(body) >= int(lengths[0].split(b":")[1])


def _status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


def _head(customer: Customer, *more: str, method: str = "POST", path: str = "/api/v1/orders") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"X-API-Key: {customer.key}"]
    return "\r\n".join([*lines, "Content-Type: application/json", "Idempotency-Key: k", *more, "", ""]).encode(
        "latin-1"
    )


def _still_serves(server: Served, customer: Customer) -> None:
    assert server.read("/api/v1/orders", X_API_Key=customer.key)[0] == 200


def test_an_endless_body_is_413_before_its_end(server: Served, stocked: Customer) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    said = _talk(server, _head(stocked, "Transfer-Encoding: chunked"), *[chunk] * 40)  # 2.5 MB, and no last chunk
    assert _status(said) == 413, said[:200]
    assert b"PAYLOAD_TOO_LARGE" in said
    assert stocked.rows()["orders"] == 0
    _still_serves(server, stocked)


def test_a_body_that_says_it_is_huge_is_413_before_it_is_sent(server: Served, stocked: Customer) -> None:
    said = _talk(server, _head(stocked, "Content-Length: 99999999999"))
    assert _status(said) == 413, said[:200]
    _still_serves(server, stocked)


@pytest.mark.parametrize(
    "more",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Content-Length: 0x10",),
        ("Content-Length: 90, 91",),
        ("Content-Length: 5", "Content-Length: 91"),
        ("Content-Length: 91", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ],
    ids=" + ".join,
)
def test_a_body_of_two_lengths_is_no_order(server: Served, stocked: Customer, more: Sequence[str]) -> None:
    said = _talk(server, _head(stocked, *more) + ORDER + b"\r\n\r\n")
    assert _status(said) in {0, 400, 411, 413, 415, 501}, said[:300]
    assert stocked.rows()["orders"] == 0
    _still_serves(server, stocked)


def test_a_body_that_breaks_off_is_the_callers_doing(server: Served, stocked: Customer) -> None:
    for broken in (b'5\r\n{"cus', b"zz\r\n{}\r\n", b"5\r\n{}"):
        head = _head(stocked, "Transfer-Encoding: chunked")
        said = _talk(server, head + broken + b"\r\n\r\n")
        assert _status(said) == 400, said[:300]
        assert b"BAD_REQUEST" in said
    _still_serves(server, stocked)


BOMBS = {
    "one of 4 MB": b"X-A: " + b"a" * 4_000_000 + b"\r\n",
    "20,000 of them": b"".join(b"X-%d: a\r\n" % number for number in range(20_000)),
    "20,000 of one name": b"X-A: a\r\n" * 20_000,
    "a name of 1 MB": b"X" * 1_000_000 + b": a\r\n",
    "a raw control character": b"X-A: a\x00b\r\n",
    "a line that goes on": b"X-A: a\r\n b\r\n",
    "no colon": b"nothing\r\n",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_headers_that_are_a_bomb_are_refused_and_the_server_serves_on(
    server: Served, stocked: Customer, bomb: bytes
) -> None:
    head = _head(stocked, f"Content-Length: {len(ORDER)}").removesuffix(b"\r\n")
    said = _talk(server, head + bomb + b"\r\n" + ORDER)
    assert _status(said) in {0, 400, 413, 431}, said[:200]
    assert stocked.rows()["orders"] == 0
    _still_serves(server, stocked)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /api/v1/orders",
        b"GET /api/v1/orders HTTP/9.9",
        b"GET  /api/v1/orders HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0",
        b"\x00" * 100,
        b"G\xc3\x8bT /api/v1/orders HTTP/1.1",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1",
        b"CONNECT example.com:443 HTTP/1.1",
    ],
    ids=lambda line: ascii(line[:40]),
)
def test_a_line_that_is_no_request_is_refused_and_the_server_serves_on(
    server: Served, stocked: Customer, line: bytes
) -> None:
    said = _talk(server, line + b"\r\nHost: localhost\r\n\r\n")
    assert _status(said) in {0, 400, 404, 405, 414, 431, 505}, said[:200]
    _still_serves(server, stocked)


def test_the_server_speaks_no_http_2(server: Served, stocked: Customer) -> None:
    """There a header is a byte, and a request has as many as it likes."""
    said = _talk(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    assert said[:5] in {b"", b"HTTP/"}
    _still_serves(server, stocked)


def test_headers_that_stand_often_are_looked_at_once_each(stocked: Customer) -> None:
    looks = 0

    class Name(bytes):
        __hash__ = bytes.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__eq__(other)

    names = [Name(b"idempotency-key") for _ in range(1_000)]
    scope: Any = {"type": "http", "headers": [(name, b"k") for name in names]}
    with pytest.raises(ValidationException) as caught:
        refuse_repeated_headers(Request[Any, Any, Any](scope))
    assert caught.value.extra == [{"key": "idempotency-key", "message": "stands there more than once"}]
    assert looks < 10 * len(names)


PATHS = [
    "/%",
    "/%zz",
    "/%00",
    "/%ff",
    "/%c0%af",
    "/errors/%",
    "/errors/%00",
    "/errors/%ff%fe",
    "/errors/%c0%ae%c0%ae",
    "/api/v1/orders/%zz",
    "/api/v1/orders/%",
    "/api/v1/orders/%00",
    "/api/v1/orders/%2e%2e%2f%2e%2e",
    "/api/v1/orders/..%2f..%2fadmin",
    "/api/v1/../../etc/passwd",
    "/api-docs/assets/../../../../etc/passwd",
    "/api-docs/assets/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/api-docs/assets/%2e%2e/%2e%2e/app.py",
    "/api-docs/assets/..\\..\\app.py",
    "/api-docs/assets//etc/passwd",
    "/api-docs/assets/%00",
    "/api-docs/assets/swagger-ui.css%00.js",
    "//example.com/api/v1/orders",
    "/API/V1/ORDERS",
    "/api/v1/orders;id=1",
    "/api/v1/orders/" + "a" * 7_000,
    "/" + "a/" * 3_000,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:60])
def test_a_path_that_leads_nowhere_is_refused_and_tells_nothing(server: Served, stocked: Customer, path: str) -> None:
    said = _talk(server, _head(stocked, method="GET", path=path))
    assert _status(said) in {400, 404, 414}, said[:300]
    for secret in (b"root:", b"import ", b"Traceback"):
        assert secret not in said
    _still_serves(server, stocked)


@pytest.mark.parametrize(
    "query",
    ["%", "%zz", "limit=%zz", "limit=5%", "%00=1", "=", "limit", "a" * 5_000, "x=1" * 2_000],
    ids=lambda query: query[:20],
)
def test_a_query_that_is_none_is_refused(server: Served, stocked: Customer, query: str) -> None:
    said = _talk(server, _head(stocked, method="GET", path=f"/api/v1/orders?{query}"))
    assert _status(said) in {400, 414}, said[:300]


def _posted(server: Served, customer: Customer, *headers: str) -> bytes:
    """An order with these headers, besides its type and its length."""
    base = ["POST /api/v1/orders HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*base, f"Content-Length: {len(ORDER)}", *headers, "", ""]).encode("latin-1")
    return _talk(server, head + ORDER)


def test_two_idempotency_keys_are_none(server: Served, stocked: Customer) -> None:
    for second in ("one", "two", ""):
        said = _posted(
            server, stocked, f"X-API-Key: {stocked.key}", "Idempotency-Key: one", f"idempotency-key: {second}"
        )
        assert _status(said) == 400
        assert b'"field":"idempotency-key"' in said
    assert stocked.rows()["orders"] == 0


def test_two_keys_or_tokens_open_nothing(server: Served, stocked: Customer, other: Customer) -> None:
    for second in (stocked.key, other.key, "junk", ""):
        for name in ("X-API-Key: ", "Authorization: Bearer "):
            said = _posted(server, stocked, "Idempotency-Key: k", f"{name}{stocked.key}", f"{name}{second}")
            assert _status(said) == 401
    assert stocked.rows()["orders"] == 0


def test_two_content_types_are_415(server: Served, stocked: Customer) -> None:
    for second in ("application/json", "text/plain"):
        key = f"X-API-Key: {stocked.key}"
        assert _status(_posted(server, stocked, key, "Idempotency-Key: k", f"Content-Type: {second}")) == 415
    assert stocked.rows()["orders"] == 0


def test_each_of_these_headers_alone_makes_an_order(server: Served, stocked: Customer) -> None:
    for number, key in enumerate((f"X-API-Key: {stocked.key}", f"Authorization: Bearer {stocked.key}")):
        assert _status(_posted(server, stocked, key, f"Idempotency-Key: {number}")) == 202


def test_options_names_the_methods_of_every_path(customer: Customer) -> None:
    routes = [route for route in customer.shop.client.app.routes if isinstance(route, HTTPRoute)]
    business = [route for route in routes if any("permission" in handler.opt for handler in route.route_handlers)]
    for route in business:
        path = route.path_format.replace("{", "").replace("}", "")
        answer = customer.shop.client.options(f"{path}?limit=5")
        assert answer.status_code == 204
        head = {"HEAD"} if "GET" in route.methods else set()
        assert set(answer.headers["Allow"].split(", ")) == set(route.methods) | head
    assert len(business) > 15


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW", "post"])
def test_a_method_that_a_path_does_not_have_is_405_whatever_a_header_makes_of_it(
    server: Served, stocked: Customer, method: str
) -> None:
    made_up = ("X-HTTP-Method-Override: POST", "X-HTTP-Method: POST", "X-Method-Override: POST")
    said = _talk(server, _head(stocked, f"Content-Length: {len(ORDER)}", *made_up, method=method) + ORDER)
    assert _status(said) == 405, said[:300]
    assert b"\r\nallow: " in said.lower()
    assert stocked.rows()["orders"] == 0
