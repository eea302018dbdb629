"""The gate in front of every handler: an answer that can be taken, no parameter that it does not declare, no body that
does not fit its schema.

Litestar alone ignores unknown parameters, takes the last of several, reads `null` as if nothing were there, and
converts inside a body: it takes "5" for 5 and 1 for a date.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from types import NoneType
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin
from uuid import UUID

from litestar import Litestar, Request, Response
from litestar.enums import HttpMethod, ParamType
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from api.auth import permit
from api.media_type import JSON, refuse_unless_accepted
from api.threads import TENANT
from api.violations import MOST_VIOLATIONS, decoded


class _Form(NamedTuple):
    """How a value of a parameter is spelled, exactly; and what is said to one that is not."""

    pattern: re.Pattern[str]
    why: str
    many: bool = False


_WHATEVER = _Form(re.compile(r"(?!null$).*", re.IGNORECASE | re.DOTALL), "must not be null")
_FORMS = {
    str: _Form(re.compile(r"[^\0]*"), "must not contain U+0000"),
    int: _Form(re.compile(r"-?(0|[1-9][0-9]{0,17})"), "must be a whole number in plain digits"),
    bool: _Form(re.compile(r"true|false"), "must be true or false"),
    UUID: _Form(re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "must be a UUID with its dashes"),
}

#: Headers of one value (RFC 9110, 5.3): of two, others may have looked at the other one.
_SINGLE = frozenset({b"idempotency-key", b"last-event-id", b"x-tenant-id"})


class GatedRequest(Request[Any, Any, Any]):
    """Its handler is given the body as the gate has decoded it: once, and no laxer than it was checked."""

    checked_body: Any = None

    async def json(self) -> Any:
        return self.checked_body


async def admit_caller(request: Request[Any, Any, Any]) -> Response[None] | None:
    """As `admit`, for a caller who is known: raises Forbidden too, before anything else.

    His handler runs in a thread of his tenant's share.

    Not one of Litestar's guards: for each, it copies the route's handler at every request.
    """
    permit(request)
    if caller := request.scope.get("user"):  # nobody need say who he is for OPTIONS
        TENANT.set(caller.tenant_id)
    return await admit(request)


async def admit(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Raises HTTPException for what is accepted, ValidationException for a parameter; BodyInvalid, or
    SerializationException, for the body.
    """
    if request.method == HttpMethod.OPTIONS:
        return Response(None, status_code=204, headers={"Allow": _methods(request.app, request.scope["path_template"])})
    handler = request.route_handler
    refuse_unless_accepted(request.headers.get("accept", ""), handler.media_type or JSON)
    refuse_repeated_headers(request)
    if request.scope["query_string"]:
        _refuse_parameters(request, _declared(handler))
    if handler.parsed_data_field is not None:
        gated = cast(GatedRequest, request)  # as the application makes them all
        gated.checked_body = decoded(await _uploaded(request), handler.parsed_data_field.annotation)
    return None


async def _uploaded(request: Request[Any, Any, Any]) -> bytes:
    """The body. What its caller takes to send it is no time that he waits for us (`api.requests.waited_s`)."""
    began_at = time.perf_counter()
    body = await request.body()
    request.scope["state"]["arrived_at"] += time.perf_counter() - began_at
    return body


@cache
def _methods(app: Litestar, path: str) -> str:
    """Of all handlers of a path. Litestar's own answer knows those of one (litestar-org/litestar#4169)."""
    (found,) = (route for route in app.routes if isinstance(route, HTTPRoute) and route.path_format == path)
    return ", ".join(sorted(found.route_handler_map))


@cache
def _declared(handler: HTTPRouteHandler) -> dict[str, _Form]:
    return {
        field.kwarg_definition.name or name: _form(field.annotation)
        for name, field in _parameters(handler)
        if isinstance(field.kwarg_definition, ParameterKwarg) and field.kwarg_definition.param_type is ParamType.QUERY
    }


def _parameters(handler: HTTPRouteHandler) -> Iterator[tuple[str, FieldDefinition]]:
    """Those of the handler, and of what it depends on."""
    providers = handler.resolve_dependencies()
    waiting = list(handler.parsed_fn_signature.parameters.items())
    while waiting:
        name, field = waiting.pop()
        if provider := providers.get(name):
            waiting.extend(provider.parsed_fn_signature.parameters.items())
        else:
            yield name, field


def _form(kind: Any) -> _Form:
    kinds = [one for one in get_args(kind) if one is not NoneType]
    if get_origin(kind) is Literal:
        return _Form(re.compile("|".join(map(re.escape, kinds))), f"must be one of {', '.join(kinds)}")
    if get_origin(kind) is list:
        return _form(kinds[0])._replace(many=True)
    if NoneType in get_args(kind) and len(kinds) == 1:
        return _form(kinds[0])
    return _FORMS.get(kind, _WHATEVER)


def refuse_repeated_headers(request: Request[Any, Any, Any]) -> None:
    """Looks at each header once. Raises ValidationException."""
    names = [name for name, _ in request.scope["headers"] if name in _SINGLE]
    if len(names) > len(set(names)):
        wrong = sorted(name.decode() for name, count in Counter(names).items() if count > 1)
        raise ValidationException(extra=[{"key": name, "message": "stands there more than once"} for name in wrong])


def _refuse_parameters(request: Request[Any, Any, Any], declared: dict[str, _Form]) -> None:
    given = request.query_params.dict()
    unknown = islice((name for name in given if name not in declared), MOST_VIOLATIONS)
    wrong = [{"key": name, "message": "is not a known parameter"} for name in unknown]
    for name, form in declared.items():
        values = given.get(name, [])
        if len(values) > 1 and not form.many:
            wrong.append({"key": name, "message": "stands there more than once"})
        elif not all(form.pattern.fullmatch(value) for value in values):
            wrong.append({"key": name, "message": form.why})
    if wrong:
        raise ValidationException(extra=wrong)
