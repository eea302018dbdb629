"""HEAD wherever there is GET: the same answer without its body (RFC 9110, 9.3.2).

Litestar knows HEAD of no handler. Here a request for HEAD is one for GET until its answer starts, and over then: nobody
waits for the end of a stream that is not sent.
"""

from collections.abc import Iterable
from typing import Any

from litestar.types import Message, Receive, Send

Header = tuple[bytes, bytes]


def as_get(scope: Any, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The scope asks for GET from here on; with the receive and send that go with it."""
    scope["method"] = "GET"
    is_over = False

    async def without_body(message: Message) -> None:
        nonlocal is_over
        if message["type"] == "http.response.start":
            is_over = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def left_once_it_is_over() -> Any:
        return {"type": "http.disconnect"} if is_over else await receive()

    return left_once_it_is_over, without_body


def with_head(headers: Iterable[Header]) -> list[Header]:
    """These headers, in which `Allow` lists HEAD beside GET."""
    return [(name, _allowed(value) if name.lower() == b"allow" else value) for name, value in headers]


def _allowed(value: bytes) -> bytes:
    methods = {method.strip() for method in value.decode("latin-1").split(",")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods)).encode()
