"""What is taken and what is given: bodies in JSON, unencoded, answers in the media type of their route.

Litestar would parse JSON under any content type, and answer whatever is accepted. Runs after authentication.
"""

import re
from collections.abc import Iterator, Mapping

from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

JSON = "application/json"
#: The same, by the name that says which version of the contract is meant.
VENDOR_JSON = "application/vnd.longshore.v1+json"
_ZERO = re.compile(r"q=0(\.0{0,3})?")


class JsonOnly(ASGIMiddleware):
    """415 for a body of another media type, or one with a Content-Encoding: it could unfold into anything."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if _has_body(headers) and (media_type != JSON or headers.get(b"content-encoding", "identity") != "identity"):
            raise HTTPException(status_code=415, detail=f"Send the body as {JSON}, without Content-Encoding.")
        await next_app(scope, receive, send)


def _has_body(headers: dict[bytes, str]) -> bool:
    return headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers


def refuse_unless_accepted(accept: str, given: str) -> None:
    """406 when an Accept (RFC 9110, 12.5.1) admits nothing that a route gives. Parameters of a type are not looked at.

    Refusals are JSON whatever was asked for: whoever admits that alone of a stream or a file is told so.
    """
    if accept.strip() in {"", "*/*", given}:
        return
    offered = {JSON, VENDOR_JSON, "application/problem+json"} if given == JSON else {given}
    admits = dict(_admits(accept))
    if not any(_is_admitted(one, admits) for one in offered):
        raise HTTPException(status_code=406, detail=f"This is answered in {given}.")


def _admits(accept: str) -> Iterator[tuple[str, bool]]:
    """Each range of media types, and whether it is admitted: a weight of 0 excludes it."""
    for entry in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in entry.split(";"))
        yield media_range, not any(_ZERO.fullmatch(parameter) for parameter in parameters)


def _is_admitted(media_type: str, admits: Mapping[str, bool]) -> bool:
    """By the most precise range that names it."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((admits[one] for one in ranges if one in admits), False)
