"""The names that clients are generated from: stable, and good as names of methods."""

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.types.internal_types import PathParameterDefinition

from api.envelope import Page


def answered(handler: HTTPRouteHandler) -> Any:
    """The type of what a handler answers, whether or not it says it in a Response."""
    returned = handler.parsed_fn_signature.return_type.annotation
    return get_args(returned)[0] if get_origin(returned) is Response else returned


def operation_id(handler: HTTPRouteHandler, path: Sequence[str | PathParameterDefinition]) -> str:
    """`post_order`, `list_orders`, `get_order`: the handler's name in the words of a caller.

    A handler with several paths is named by each of them, as `get_health_ready`.
    """
    name = handler.handler_name
    if len(handler.paths) > 1:
        return "_".join(["get", *(part for part in path if isinstance(part, str))])
    if get_origin(answered(handler)) is Page:
        return name.replace("get_", "list_", 1)
    return name.replace("_one_", "_", 1)
