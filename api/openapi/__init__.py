"""The OpenAPI document and the page that shows it, at /api-docs; both come from this process alone.

Everything in it is read off the handlers and their types, so a new route is described the moment it is served:
`document` puts together what the other modules of this room say of schemas, errors, headers, links and webhooks.
"""

from dataclasses import dataclass, field
from typing import Any

from litestar import Request, Router
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Contact, License, OpenAPI, SecurityScheme, Server
from litestar.types.internal_types import PathParameterDefinition

from api.openapi.document import Document
from api.openapi.names import operation_id
from ops.telemetry import VERSION

_PATH = "/api-docs"
_ABOUT = """\
Orders in, 202 once they are durable, and every piece of work behind them done.

Every answer with a body is one envelope: `success` and `data`, or the problem (RFC 9457) that says what went wrong; the
codes are served at `/errors`. Not in this shape: files, event streams, health, metrics, 204 and 304.

What holds for every path and cannot be said of one operation: a method that a path does not have is 405 with `Allow`, a
path that does not exist is 404; `OPTIONS` is 204 with `Allow`, and `HEAD` is there wherever `GET` is. `X-Request-ID` (8
to 128 of `A-Za-z0-9._-`) is taken over, echoed and logged; `X-Tenant-ID` may name the tenant of the key and no other;
`traceparent` travels with the work.
"""


class _Page(OpenAPIRenderPlugin):
    """Litestar's own page runs a script that stands in it, which the headers of this server forbid."""

    def __init__(self, page: bytes) -> None:
        super().__init__(path="/")
        self._page = page

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # Litestar's
        return self._page


def describe(prefix: str, page: bytes) -> OpenAPIConfig:
    """How the document is made, and the page that shows it. `prefix` is where the business routes live."""
    config = _Config(
        title="Longshore",
        version=VERSION,
        description=_ABOUT,
        contact=Contact(name="The Longshore authors"),
        license=License(name="MIT", identifier="MIT"),
        servers=[Server("/", description="This server")],
        use_handler_docstrings=True,
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
    config.operation_id_creator = config.named
    return config


def _no_such_page(request: Request[Any, Any, Any]) -> None:
    """Litestar answers unknown pages of the documentation in HTML; here they are 404s like all others."""
    if "path" in request.path_params:
        raise NotFoundException


@dataclass
class _Config(OpenAPIConfig):
    business: str = ""
    handlers: dict[str, HTTPRouteHandler] = field(default_factory=dict)

    def named(self, handler: HTTPRouteHandler, _method: object, path: list[str | PathParameterDefinition]) -> str:
        """The operation's id; remembers whose it is, which Litestar's document does not tell."""
        name = operation_id(handler, path)
        self.handlers[name] = handler
        return name

    def to_openapi_schema(self) -> OpenAPI:
        found = super().to_openapi_schema()
        document = Document(info=found.info, components=found.components, servers=found.servers)
        document.business, document.handlers = self.business, self.handlers
        return document
