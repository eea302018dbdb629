"""The API as an ASGI application. Importing or creating it opens no port and no connection; serving it does."""

from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Router
from litestar.exceptions import HTTPException, NotFoundException
from litestar.static_files import create_static_files_router

from api.auth import Authentication
from api.browser_headers import cross_origin
from api.envelope import answer_error
from api.freshness import Freshness
from api.gate import GatedRequest, admit, admit_caller
from api.limits import PerCaller
from api.media_type import JsonOnly
from api.observe import Api
from api.openapi import describe
from api.parts import Parts
from api.routes import auth, dead_letters, errors, job_events, jobs, orders, products, reports, users, webhook_endpoints
from api.routes.health import health, live, ready
from api.routes.metrics import metrics
from api.strangers import PerAddress
from ops.settings import Settings

STATIC = Path(__file__).parent / "static"
#: Business routes live here: the version of the contract, which links and clients carry, not a setting.
PREFIX = "/api/v1"
BUSINESS = (orders, jobs, job_events, products, reports, webhook_endpoints, dead_letters, users)


def create_app(settings: Settings, schema: str | None = None) -> Litestar:
    """The application. `schema` is the migration it needs: readiness fails at any other."""
    parts = Parts(settings, schema)
    app = Api(
        route_handlers=[_business(), _entrance(), errors.router, live, ready, health, metrics, _assets()],
        dependencies=parts.dependencies(),
        exception_handlers={HTTPException: answer_error, Exception: answer_error},
        lifespan=[parts.lifespan],
        openapi_config=describe(PREFIX, (STATIC / "page" / "index.html").read_bytes()),
        cors_config=cross_origin(settings.allowed_origins),
        request_class=GatedRequest,
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
        debug=False,
    )
    app.proxies = settings.proxy_networks
    # Those that middleware looks for, and whoever serves the application.
    for name in ("key_ring", "token_ring", "readiness", "news", "limiter", "strangers"):
        app.state[name] = getattr(parts, name)
    return app


def _business() -> Router:
    """What takes a key or a token."""
    return Router(
        PREFIX,
        route_handlers=[*(module.router for module in BUSINESS), auth.leaving],
        middleware=[Freshness(), Authentication, PerCaller(), JsonOnly()],
        before_request=admit_caller,
        security=[{"apiKeyAuth": []}, {"bearerAuth": []}],
    )


def _entrance() -> Router:
    """Where people get their tokens."""
    return Router(PREFIX, route_handlers=[auth.router], middleware=[PerAddress(), JsonOnly()], before_request=admit)


def _assets() -> Router:
    return create_static_files_router(
        "/api-docs/assets",
        [STATIC / "swagger-ui", STATIC / "page"],
        include_in_schema=False,
        before_request=_a_name,
    )


def _a_name(request: Request[Any, Any, Any]) -> None:
    if "\0" in request.scope["path"]:  # no file system has such a name, and Python will not ask it
        raise NotFoundException
