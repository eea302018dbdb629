"""The headers of answers: which there are, and which of them an operation's answers carry, read off what it takes."""

from typing import Any

Headers = dict[str, Any]

_STRING = {"type": "string"}
_DIGITS = {"type": "string", "pattern": "^[0-9]+$"}
_HEADERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "X-Request-ID": (
        "The request's id: the caller's own if it is well-formed; it stands in every line of the log",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,128}$"},
        "01a1fc33-5efc-7084-a313-92be393c2278",
    ),
    "X-Correlation-ID": ("The same as X-Request-ID", _STRING, "01a1fc33-5efc-7084-a313-92be393c2278"),
    "Location": (
        "Where what was made can be read: of a 202, the job to poll",
        {"type": "string", "format": "uri-reference"},
        "/api/v1/jobs/019aa3f1-6c01-7d20-8b5e-3f1d0c9a7e42",
    ),
    "Retry-After": ("Seconds to wait before asking (again)", _DIGITS, "1"),
    "ETag": ("The version of what was read, for If-None-Match and If-Match", _STRING, '"3"'),
    "Link": ("The first page and the next (RFC 8288)", _STRING, '</api/v1/orders>; rel="first"'),
    "Idempotent-Replayed": ("The answer is that of an earlier request with this key", {"const": "true"}, "true"),
    "Preference-Applied": ("The `wait` that was granted (RFC 7240)", _STRING, "wait=10"),
    "WWW-Authenticate": ("How to show a key (RFC 6750)", _STRING, 'Bearer realm="api", error="invalid_token"'),
    "RateLimit-Policy": ("The limits of the key's tenant", _STRING, '"burst";q=1000;w=60'),
    "RateLimit": ("What is left, and the seconds until there is more", _STRING, '"burst";r=997;t=42'),
    "X-RateLimit-Limit": ("Requests in a minute", _DIGITS, "1000"),
    "X-RateLimit-Remaining": ("What is left of them", _DIGITS, "997"),
    "Deprecation": ("Since when the route shall not be used any more (RFC 9745)", _STRING, "@1798761600"),
    "Sunset": ("When the route is gone (RFC 8594)", _STRING, "Fri, 01 Jan 2027 00:00:00 GMT"),
    "X-RateLimit-Reset": ("When there is more, in Unix seconds", _DIGITS, "1795167042"),
}
_ALWAYS = ("X-Request-ID", "X-Correlation-ID")
_OF_CALLERS = ("RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_OF_STATUS: dict[int, tuple[str, ...]] = {202: ("Location", "Retry-After")}
_AT_TIMES: dict[int, tuple[str, ...]] = {201: ("Location",)}
_OF_ERROR: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *_OF_CALLERS),
    503: ("Retry-After",),
}
#: What an operation answers because it takes a header; the first always, the others where they apply.
_OF_PARAMETER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "If-None-Match": (("ETag",), ()),
    "If-Match": (("ETag",), ()),
    "Prefer": ((), ("Preference-Applied", "Retry-After")),
    "Idempotency-Key": ((), ("Idempotent-Replayed",)),
    "cursor": ((), ("Link",)),
}


def header_components() -> dict[str, Any]:
    """Each header, as an answer that always has it declares it."""
    return {name: _header(name, required=True) for name in _HEADERS}


def headers_of_success(status: int, operation: dict[str, Any]) -> Headers:
    """The headers of a 2xx or 304."""
    names = {parameter["name"] for parameter in operation.get("parameters", [])}
    always, sometimes = [*_ALWAYS], [*_AT_TIMES.get(status, ())]
    if "security" in operation:
        always += [*_OF_CALLERS, *_OF_STATUS.get(status, ())]
    if operation.get("deprecated"):
        always.append("Deprecation")
        sometimes += ["Sunset", "Link"]
    for name in sorted(names & set(_OF_PARAMETER)):
        always += _OF_PARAMETER[name][0] if status in {200, 304} else ()
        sometimes += _OF_PARAMETER[name][1]
    return _references(always) | {name: _header(name, required=False) for name in sometimes}


def headers_of_error(status: int) -> Headers:
    """The headers of an error."""
    return _references([*_ALWAYS, *_OF_ERROR.get(status, ())])


def _references(names: list[str]) -> Headers:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str, *, required: bool) -> dict[str, Any]:
    description, schema, example = _HEADERS[name]
    return {"description": description, "required": required, "schema": schema, "example": example}
