"""What is taken and what is given: bodies in JSON and UTF-8, unencoded, answers in the media type of their route.

Litestar would parse JSON under any content type, and answer whatever is accepted. Runs after authentication.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

JSON = "application/json"
#: The same, by the name that says which version of the contract is meant.
VENDOR_JSON = "application/vnd.longshore.v1+json"
_ZERO = re.compile(r"q=0(\.0{0,3})?")
#: RFC 8259, 8.1: between systems JSON is UTF-8, of which ASCII is a part.
_CHARSETS = {"utf-8", "us-ascii"}
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";,\s]*)', re.IGNORECASE)


class JsonOnly(ASGIMiddleware):
    """415 for a body of another media type, or one with a Content-Encoding: it could unfold into anything."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if _has_body(scope) and not (_is_json(_values(scope, b"content-type")) and _is_plain(scope)):
            raise HTTPException(status_code=415, detail=f"Send the body as {JSON} in UTF-8, without Content-Encoding.")
        await next_app(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in scope["headers"] if each == name]


def _has_body(scope: Scope) -> bool:
    return _values(scope, b"content-length") not in ([], ["0"]) or bool(_values(scope, b"transfer-encoding"))


def _is_json(types: Sequence[str]) -> bool:
    """Of two types, whoever looked at the request on the way may have gone by the other one."""
    media_type = types[0].partition(";")[0].strip().lower() if len(types) == 1 else None
    return media_type == JSON and {name.lower() for name in _CHARSET.findall(types[0])} <= _CHARSETS


def _is_plain(scope: Scope) -> bool:
    return set(_values(scope, b"content-encoding")) <= {"identity"}


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
