"""The gate in front of every handler: an answer that can be taken, no parameter that it does not declare, no body that
does not fit its schema.

Litestar alone ignores unknown parameters, and converts inside a body: it takes "5" for 5 and 1 for a date.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from litestar import Request
from litestar.enums import ParamType
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

from api.media_type import JSON, refuse_unless_accepted
from api.requests import refuse
from api.violations import violations_of


async def admit(request: Request[Any, Any, Any]) -> None:
    """Raises HTTPException for what is accepted, ValidationException for a parameter; BodyInvalid, or
    SerializationException, for the body.
    """
    handler = request.route_handler
    refuse_unless_accepted(request.headers.get("accept", ""), handler.media_type or JSON)
    if request.scope["query_string"]:
        _refuse_parameters(request, _declared(handler))
    if handler.parsed_data_field is not None:
        refuse(*violations_of(await request.body(), handler.parsed_data_field.annotation))


@cache
def _declared(handler: HTTPRouteHandler) -> frozenset[str]:
    known = [(name, field.kwarg_definition) for name, field in _parameters(handler)]
    return frozenset(
        kwarg.name or name
        for name, kwarg in known
        if isinstance(kwarg, ParameterKwarg) and kwarg.param_type is ParamType.QUERY
    )


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


def _refuse_parameters(request: Request[Any, Any, Any], declared: frozenset[str]) -> None:
    wrong = [{"key": name, "message": "is not a known parameter"} for name in set(request.query_params) - declared]
    wrong += [
        {"key": name, "message": "must not contain U+0000"}
        for name, value in request.query_params.multi_items()
        if name in declared and "\x00" in value
    ]
    if wrong:
        raise ValidationException(extra=wrong)
