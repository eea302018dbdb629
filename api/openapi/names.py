"""The names that clients are generated from: stable, and good as names of methods."""

from collections.abc import Sequence
from typing import get_origin

from litestar.handlers import HTTPRouteHandler
from litestar.types.internal_types import PathParameterDefinition

from api.envelope import Page


def operation_id(handler: HTTPRouteHandler, path: Sequence[str | PathParameterDefinition]) -> str:
    """`post_order`, `list_orders`, `get_order`: the handler's name in the words of a caller.

    A handler with several paths is named by each of them, as `get_health_ready`.
    """
    name = handler.handler_name
    if len(handler.paths) > 1:
        return "_".join(["get", *(part for part in path if isinstance(part, str))])
    if get_origin(handler.parsed_fn_signature.return_type.annotation) is Page:
        return name.replace("get_", "list_", 1)
    return name.replace("_one_", "_", 1)
