"""What handlers read off a request besides its body: its trace, its origin, its idempotency key."""

import re
import time
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException
from litestar.params import HeaderParameter

from domain.errors import BodyInvalid, IdempotencyKeyRequired, Violation

LONGEST_KEY = 255
#: In quotes, or not in quotes; a header's value neither begins nor ends with a space.
_KEY = r'"[ -~]{1,255}"|[!#-~]([ -~]{0,253}[!-~])?|"([ -~]{0,253}[!#-~])?'


def _key_header(*, required: bool) -> HeaderParameter:
    return HeaderParameter(
        name="Idempotency-Key",
        required=required,
        description="1 to 255 printable characters, quoted or not; makes a retry of the request safe",
        schema_extra={"pattern": f"^({_KEY})$"},
    )


IdempotencyKey = Annotated[str | None, _key_header(required=False)]
#: None all the same, so that the answer without one has a code of its own.
DemandedKey = Annotated[str | None, _key_header(required=True)]
NamedTenant = Annotated[
    str | None,
    HeaderParameter(
        name="X-Tenant-ID",
        required=False,
        description="The id of the tenant that is meant",
        schema_extra={"format": "uuid"},
    ),
]


def trace_context(request: Request[Any, Any, Any]) -> str:
    """What travels with a job so that its log lines and traces lead back to this request, as JSON."""
    trace = {"requestId": request.scope["state"]["request_id"]}
    traceparent = request.headers.get("traceparent", "")
    if 0 < len(traceparent) <= 128 and traceparent.isprintable():
        trace["traceparent"] = traceparent
    return msgspec.json.encode(trace).decode()


def waited_s(request: Request[Any, Any, Any]) -> float:
    """Seconds since the request came: its key may have been looked up meanwhile, and its limit counted.

    Without those that its body took to come.
    """
    return time.perf_counter() - float(request.scope["state"]["arrived_at"])


def origin(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Where a request came from, for the audit log."""
    return {
        "ip": request.client.host if request.client else "",
        "userAgent": request.headers.get("user-agent", "")[:200],
    }


def idempotency_key(header: str | None) -> str:
    """The key without its quotes (draft-ietf-httpapi-idempotency-key-header-07 quotes it, most clients do not).

    Raises IdempotencyKeyRequired, or ValidationException for one that is empty, too long or not printable ASCII.
    """
    if header is None:
        raise IdempotencyKeyRequired
    if not re.fullmatch(_KEY, header):
        why = f"must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise ValidationException(extra=[{"key": "Idempotency-Key", "message": why}])
    return header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header


def refuse(*violations: Violation) -> None:
    """Raises BodyInvalid if there are any violations."""
    if violations:
        raise BodyInvalid(violations=violations)
