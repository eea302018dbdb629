"""The shape of every answer: one success envelope, one error body, which is RFC 9457 problem details and envelope.

The HTTP status of each error code is in CODES and nowhere else. `api/routes/errors.py` serves the catalogue.
"""

from typing import Any, Generic, TypeVar

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    SerializationException,
    ValidationException,
)
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.exc import OperationalError

from api.media_type import JSON, VENDOR_JSON
from api.phrases import phrase
from domain.errors import IdempotencyKeyInFlight, LongshoreError, Violation
from domain.outages import is_outage
from ops.telemetry import log

logger = log(__name__)

Data = TypeVar("Data")
RETRY_AFTER = {"Retry-After": "1"}


class Success(Struct, Generic[Data], rename="camel", omit_defaults=True, kw_only=True):
    """Every 2xx with a body."""

    success: bool = msgspec.field(default_factory=lambda: True)  # a factory, so that it is never omitted
    data: Data
    links: dict[str, str] | None = None


class Pagination(Struct, rename="camel"):
    """Where the next page starts: send `nextCursor` back as `cursor`. From `page` on of numbered pages only."""

    next_cursor: str | None
    has_more: bool
    page: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    total_pages: int | UnsetType = UNSET
    has_next: bool | UnsetType = UNSET
    has_prev: bool | UnsetType = UNSET


class Page(Struct, Generic[Data], rename="camel", kw_only=True):
    """A page of a list."""

    success: bool = True
    data: list[Data]
    pagination: Pagination


class Detail(Struct, rename={"in_": "in"}):
    """One thing wrong with one field: `field` as written, `pointer` as in RFC 6901."""

    field: str
    pointer: str
    in_: str
    code: str
    message: str


class ErrorBody(Struct, rename="camel"):
    """The envelope's view of the error."""

    code: str
    message: str
    request_id: str
    details: list[Detail]


class Problem(Struct, rename="camel"):
    """RFC 9457 problem details, with the envelope's members as its extension."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    success: bool
    error: ErrorBody
    violated_policies: list[str] | UnsetType = msgspec.field(default=UNSET, name="violated-policies")


class Code(Struct, frozen=True):
    """An error code: its HTTP status, and what it means to a caller."""

    status: int
    title: str
    retryable: bool = False
    #: A registered problem type, in place of the page of the code.
    type: str | None = None


CODES: dict[str, Code] = {
    "BAD_REQUEST": Code(400, "The request cannot be understood"),
    "MALFORMED_JSON": Code(400, "The body is not JSON"),
    "VALIDATION_ERROR": Code(422, "The request does not fit its schema"),
    "INVALID_CURSOR": Code(400, "The cursor was not made by this list"),
    "IDEMPOTENCY_KEY_REQUIRED": Code(400, "An Idempotency-Key header is required"),
    "UNAUTHENTICATED": Code(401, "A valid key, token or password is required"),
    "TOKEN_EXPIRED": Code(401, "The access token has expired"),
    "FORBIDDEN": Code(403, "The key or the person lacks a permission"),
    "TENANT_MISMATCH": Code(403, "X-Tenant-ID names another tenant"),
    "TENANT_SUSPENDED": Code(403, "The tenant is suspended"),
    "NOT_FOUND": Code(404, "There is no such thing"),
    "NOT_ACCEPTABLE": Code(406, "It is not given in any media type that was accepted"),
    "METHOD_NOT_ALLOWED": Code(405, "The resource does not have this method"),
    "CONFLICT": Code(409, "The request conflicts with the present state"),
    "DUPLICATE_RESOURCE": Code(409, "It exists already"),
    "INVALID_STATE": Code(409, "The present state does not allow this"),
    "PLAN_EXHAUSTED": Code(409, "The tenant's plan has no room for another one"),
    "ORDER_NOT_CANCELLABLE": Code(409, "The order can no longer be cancelled"),
    "JOB_NOT_FINISHED": Code(409, "The job has no result yet", retryable=True),
    "RESULT_EXPIRED": Code(410, "The result is no longer kept"),
    "VERSION_CONFLICT": Code(412, "It has changed since it was read"),
    "ACCOUNT_LOCKED": Code(423, "Too many log-ins failed: none is tried for a while", retryable=True),
    "INSUFFICIENT_STOCK": Code(422, "There is not enough stock"),
    "IDEMPOTENCY_KEY_IN_FLIGHT": Code(409, "The first request with this Idempotency-Key is under way", retryable=True),
    "IDEMPOTENCY_KEY_REUSED": Code(422, "The Idempotency-Key was used for another request"),
    "PAYLOAD_TOO_LARGE": Code(413, "The body is too large"),
    "UNSUPPORTED_MEDIA_TYPE": Code(415, "The body must be application/json, without encoding"),
    "INTERNAL_ERROR": Code(500, "Something went wrong on our side", retryable=True),
    "RATE_LIMITED": Code(
        429, "Too many requests", retryable=True, type="https://iana.org/assignments/http-problem-types#quota-exceeded"
    ),
    "OVERLOADED": Code(
        503,
        "Too much is waiting",
        retryable=True,
        type="https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    ),
    "DEPENDENCY_UNAVAILABLE": Code(503, "The database does not answer", retryable=True),
}
_BY_STATUS = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


_CHALLENGE = 'Bearer realm="api"'
#: Where the framework would say the status once more.
_WORDS = {
    404: "There is no such path; /api-docs shows which there are.",
    405: "This path does not take this method: Allow names those it does.",
    413: "The body is larger than this server takes.",
}


class Failure(Struct, frozen=True):
    """An error on its way to becoming a body."""

    code: str
    status: int
    message: str
    violations: list[Violation] = []
    policies: list[str] = []


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The one exception handler. Nothing of a driver or a stack trace reaches the caller; both are in the log."""
    failure = classify(request, error)
    if (standing := getattr(error, "standing", None)) is not None:
        request.scope["state"]["standing"] = standing  # the limit that was exceeded, whichever else was counted
    seen = {"code": failure.code, "path": request.url.path, "method": request.method}
    if failure.status == 503:  # an outage or a crowd: one line per request says enough
        logger.warning("request.refused", error=type(error).__name__, **seen)
    elif failure.status >= 500:
        logger.error("request.failed", exc_info=error, **seen)
    return problem(request, failure, _headers(request, failure, error))


def answer_refusal(request: Request[Any, Any, Any], error: LongshoreError) -> Response[Problem]:
    """As `answer_error`, for what was caught because it says something of the request."""
    return problem(request, classify(request, error), {})


def classify(request: Request[Any, Any, Any], error: Exception) -> Failure:  # noqa: PLR0911  # one case per sort
    """Which code an exception is."""
    match error:
        case LongshoreError():
            return Failure(error.code, CODES[error.code].status, str(error), error.violations, error.policies)
        case ValidationException():
            return Failure("VALIDATION_ERROR", 400, "A parameter is not valid.", _of_parameters(request, error))
        case HTTPException(status_code=400, __cause__=SerializationException()):
            return Failure("MALFORMED_JSON", 400, "The body is not well-formed JSON.")
        case InternalServerException(
            detail="client disconnected prematurely"
        ):  # a body that breaks off is no fault of ours
            return Failure("BAD_REQUEST", 400, "The body ended before it was whole.")
        case HTTPException(status_code=status) if status in _BY_STATUS:
            return Failure(_BY_STATUS[status], status, _WORDS.get(status, str(error.detail)))
        case UnicodeDecodeError() | RecursionError() | SerializationException():
            return Failure("MALFORMED_JSON", 400, getattr(error, "detail", "") or "The body is not well-formed JSON.")
        case _ if isinstance(error, OperationalError) or is_outage(error):
            return Failure("DEPENDENCY_UNAVAILABLE", 503, "The database does not answer; try again shortly.")
        case _:
            return Failure("INTERNAL_ERROR", 500, "Something went wrong on our side.")


def problem(request: Request[Any, Any, Any], failure: Failure, headers: dict[str, str]) -> Response[Problem]:
    """The body of a failure, in the media type the caller asked for."""
    request_id = request.scope.get("state", {}).get("request_id", "")
    body = Problem(
        type=CODES[failure.code].type or f"/errors/{failure.code}",
        title=CODES[failure.code].title,
        status=failure.status,
        detail=failure.message,
        instance=f"urn:request:{request_id}",
        success=False,
        error=ErrorBody(failure.code, failure.message, request_id, [_detail(v, failure) for v in failure.violations]),
        violated_policies=failure.policies or UNSET,
    )
    return Response(body, status_code=failure.status, media_type=_media_type(request), headers=headers)


def _of_parameters(request: Request[Any, Any, Any], error: ValidationException) -> list[Violation]:
    found = (entry for entry in error.extra or [] if isinstance(entry, dict))
    return [
        Violation(_named(request, str(entry.get("key", ""))), phrase(None, str(entry.get("message", "")))[1])
        for entry in found
    ]


def _named(request: Request[Any, Any, Any], argument: str) -> str:
    """The parameter's name as the caller wrote it, which the handler's argument need not have."""
    field = request.route_handler.parsed_fn_signature.parameters.get(argument)
    name = getattr(field.kwarg_definition, "name", None) if field else None
    return name if isinstance(name, str) else argument


def _detail(violation: Violation, failure: Failure) -> Detail:
    place = "body" if failure.status == 422 else "parameter"
    return Detail(violation.field, _pointer(violation.field), place, violation.code, violation.message)


def _pointer(field: str) -> str:
    """`lines[0].sku` as `#/lines/0/sku` (RFC 6901 in a URI fragment, as RFC 9457 shows it)."""
    return "#/" + field.replace("[", ".").replace("]", "").replace(".", "/") if field else "#"


def _headers(request: Request[Any, Any, Any], failure: Failure, error: Exception) -> dict[str, str]:
    headers = dict(getattr(error, "headers", None) or {})
    if failure.status == 401:
        has_shown = "authorization" in request.headers or "x-api-key" in request.headers
        # RFC 6750, section 3.1: who has shown nothing is not told that it was wrong.
        headers["WWW-Authenticate"] = _CHALLENGE + (', error="invalid_token"' if has_shown else "")
    if failure.status == 503 or isinstance(error, IdempotencyKeyInFlight):
        headers |= RETRY_AFTER
    return headers


def _media_type(request: Request[Any, Any, Any]) -> str:
    accepted = request.headers.get("accept", "*/*").replace(VENDOR_JSON, JSON)
    plain = "application/json" in accepted and "*/*" not in accepted and "problem+json" not in accepted
    return "application/json" if plain else "application/problem+json"
