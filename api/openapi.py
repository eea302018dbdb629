"""The OpenAPI document: what Litestar finds in the handlers, and what they have in common: errors, refused extras.

The document and its page are at /api-docs; both come from this process alone.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, SecurityScheme

from api.bodies import Body
from api.envelope import Problem
from ops.telemetry import VERSION

_PATH = "/api-docs"
_ALWAYS = (400, 401, 403, 500, 503)
_OF_BODIES = (413, 415, 422)


class _Page(OpenAPIRenderPlugin):
    """Litestar's own page runs a script that stands in it, which the headers of this server forbid."""

    def __init__(self, page: bytes) -> None:
        super().__init__(path="/")
        self._page = page

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # Litestar's
        return self._page


def describe(prefix: str, page: bytes) -> OpenAPIConfig:
    """How the document is made, and the page that shows it."""
    return _Config(
        title="Longshore",
        version=VERSION,
        description="Orders in, 202 once they are durable, and every piece of work behind them done.",
        path=_PATH,
        openapi_router=Router(_PATH, route_handlers=[], before_request=_no_such_page, include_in_schema=False),
        render_plugins=[_Page(page)],
        components=Components(
            security_schemes={
                "apiKeyAuth": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                "bearerAuth": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
        business=prefix,
    )


def _no_such_page(request: Request[Any, Any, Any]) -> None:
    """Litestar answers unknown pages of the documentation in HTML; here they are 404s like all others."""
    if "path" in request.path_params:
        raise NotFoundException


@dataclass
class _Config(OpenAPIConfig):
    business: str = ""

    def to_openapi_schema(self) -> OpenAPI:
        found = super().to_openapi_schema()
        document = _Document(info=found.info, components=found.components, servers=found.servers)
        document.business = self.business
        return document


class _Document(OpenAPI):
    business = ""

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        components = document["components"]
        _, problems = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
        components["schemas"].update(problems)
        components["responses"] = {str(status): _problem(status) for status in _STATUSES}
        for body in _subclasses(Body):
            if body in components["schemas"]:
                components["schemas"][body]["additionalProperties"] = False
        for path, item in document["paths"].items():
            for method, operation in item.items():
                _declare_errors(operation["responses"], _errors_of(path, method, operation, self.business))
        return document


_STATUSES = (*_ALWAYS, 404, 409, 410, *_OF_BODIES, 423)


def _errors_of(path: str, method: str, operation: dict[str, Any], business: str) -> list[int]:
    is_business = path.startswith(business) and ("security" in operation or method != "get")
    statuses = list(_ALWAYS) if is_business else []
    if "{" in path:
        statuses += [404, 409, 410] if path.endswith("/download") else [404]
    if method != "get":
        statuses += [409, 423] if path.endswith("/login") else [409]
    if "requestBody" in operation:
        statuses += _OF_BODIES
    return statuses


def _declare_errors(responses: dict[str, Any], statuses: list[int]) -> None:
    responses.pop("400", None)  # Litestar's own, in another shape
    responses.update({str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)})


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": schema}, "application/json": {"schema": schema}},
    }


def _subclasses(kind: type[Body]) -> set[str]:
    direct = kind.__subclasses__()
    return {one.__name__ for one in direct}.union(*(_subclasses(one) for one in direct))
