"""The errors of an operation, read off what its handler is, and the problem that each code looks like."""

from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET

from api.envelope import CODES, Detail, ErrorBody, Problem
from api.openapi.examples import REQUEST_ID
from api.openapi.headers import headers_of_error
from api.openapi.schemas import PREFIX

#: Whatever else an operation does. A parameter that it does not know is 400.
_BUSINESS = {400, 406, 429, 500, 503}
_OF_CALLERS = {401, 403}
_OF_BODIES = {400, 401, 406, 403, 413, 415, 422, 429, 500, 503}
_OF_HEADERS = {"If-Match": {412, 428}, "Idempotency-Key": {409, 422}}
#: No operation of its own has them: the router answers before there is one.
_OF_NO_OPERATION = {405}

_DETAIL = Detail("lines[0].sku", "#/lines/0/sku", "body", "UNKNOWN_SKU", "no such product")
_PARAMETER = Detail("limit", "#/limit", "parameter", "INVALID", "must be at most 100")


def statuses_of(path: str, method: str, operation: dict[str, Any], business: str) -> set[int]:
    """The statuses of all errors that this operation may answer, as far as there are codes for them."""
    found: set[int] = set()
    if "security" in operation:
        found |= _BUSINESS | _OF_CALLERS
    if "requestBody" in operation:
        found |= _OF_BODIES
    if "{" in path:
        found |= {404, 409, 410} if path.endswith("/download") else {404}
    if method != "get" and path.startswith(business):
        found |= {409}
    if path.endswith("/login"):
        found |= {423}
    for parameter in operation.get("parameters", []):
        found |= _OF_HEADERS.get(parameter["name"], set())
    return found & _known()


def error_responses() -> dict[str, Any]:
    """A component for each status, with an example for each of its codes."""
    return {str(status): _response(status) for status in sorted(_known())}


def _known() -> set[int]:
    return {code.status for code in CODES.values()} - _OF_NO_OPERATION


def _response(status: int) -> dict[str, Any]:
    codes = [name for name, code in CODES.items() if code.status == status]
    examples = {name: {"summary": CODES[name].title, "value": _problem(name, status)} for name in codes}
    if status == 400:
        examples["VALIDATION_ERROR"] = {
            "summary": "A parameter is not valid",
            "value": _problem("VALIDATION_ERROR", 400),
        }
    content = {"schema": {"$ref": f"{PREFIX}Problem"}, "examples": examples}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": headers_of_error(status),
        "content": {"application/problem+json": content, "application/json": content},
    }


def _problem(code: str, status: int) -> dict[str, Any]:
    title, details = CODES[code].title, []
    if code == "VALIDATION_ERROR":
        details = [_PARAMETER if status == 400 else _DETAIL]
    problem = Problem(
        type=CODES[code].type or f"/errors/{code}",
        title=title,
        status=status,
        detail=f"{title}.",
        instance=f"urn:request:{REQUEST_ID}",
        success=False,
        error=ErrorBody(code, f"{title}.", REQUEST_ID, details),
        violated_policies=["burst"] if status == 429 else UNSET,
    )
    shown: dict[str, Any] = msgspec.to_builtins(problem)
    return shown
