"""The API as an ASGI application. Importing or creating it opens no port and no connection; serving it does."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.static_files import create_static_files_router
from sqlalchemy import Engine

from api.auth import Authentication
from api.browser_headers import cross_origin
from api.envelope import answer_error
from api.freshness import Freshness
from api.gate import GatedRequest, admit, admit_caller
from api.ingress import Ingress
from api.job_news import JobNews
from api.key_ring import KeyRing
from api.limits import PerCaller, Policy, RateLimiter
from api.log_ins import LogIns
from api.media_type import JsonOnly
from api.observe import Api
from api.once import once
from api.openapi import describe
from api.pages import listing
from api.readiness import Readiness
from api.relay_bell import RelayBell
from api.routes import auth, dead_letters, errors, job_events, jobs, orders, products, reports, users, webhook_endpoints
from api.routes.health import health, live, ready
from api.routes.metrics import Gauges, metrics
from api.strangers import PerAddress, Strangers
from api.tenant_database import TenantDatabase
from api.token_ring import TokenRing
from api.tokens import AccessTokens, derived_seed
from domain.database import connect
from domain.reports.store import ReportStore
from domain.roles import API, INTAKE, TENANT
from domain.tenants.callers import Caller
from ops.settings import Settings
from ops.telemetry import log

logger = log(__name__)

STATIC = Path(__file__).parent / "static"
#: Business routes live here: the version of the contract, which links and clients carry, not a setting.
PREFIX = "/api/v1"
#: One connection per thread that may serve a request; a few for looking up keys, news of jobs, and health.
POOL_SIZE = 20
OWN_POOL_SIZE = 5
STATEMENT_TIMEOUT_MS = 5_000


def create_app(settings: Settings, schema: str | None = None) -> Litestar:
    """The application. `schema` is the migration it needs: readiness fails at any other."""
    connect_as = partial(connect, settings.database_url, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    engine = connect_as(process="api", role=API.name, pool_size=OWN_POOL_SIZE)
    tenants = connect_as(process="api", role=TENANT.name, pool_size=POOL_SIZE)
    intake = connect(settings.database_url, process="ingress", role=INTAKE.name, pool_size=1)
    bell = RelayBell(settings.redis_url)
    readiness = Readiness(engine, bell, settings.required_for_readiness, schema)
    ingress = Ingress(intake, bell.ring)
    news = JobNews(engine, settings.redis_url)
    limiter = RateLimiter(settings.redis_url)
    strangers = Strangers(limiter, Policy("anonymous", settings.rate_limit_max_requests, settings.rate_limit_window_s))
    business = Router(
        PREFIX,
        route_handlers=[
            *(
                module.router
                for module in (orders, jobs, job_events, products, reports, webhook_endpoints, dead_letters, users)
            ),
            auth.leaving,
        ],
        middleware=[Freshness(), Authentication, PerCaller(), JsonOnly()],
        before_request=admit_caller,
        security=[{"apiKeyAuth": []}, {"bearerAuth": []}],
    )
    entrance = Router(PREFIX, route_handlers=[auth.router], middleware=[PerAddress(), JsonOnly()], before_request=admit)
    assets = create_static_files_router(
        "/api-docs/assets", [STATIC / "swagger-ui", STATIC / "page"], include_in_schema=False, before_request=_a_name
    )
    store, gauges = ReportStore(settings.reports_url), Gauges(engine, (engine, tenants, intake))
    tokens = AccessTokens(settings.jwt_seeds or [derived_seed(settings.secret_bytes)], settings.access_lifetime)
    key_ring, token_ring = KeyRing(engine), TokenRing(engine, tokens)
    app = Api(
        route_handlers=[business, entrance, errors.router, live, ready, health, metrics, assets],
        dependencies={
            "caller": Provide(_caller, sync_to_thread=False),
            "engine": _always(engine),
            "database": _of_caller(tenants),
            "databases": _always(partial(TenantDatabase, tenants)),
            "log_ins": _always(LogIns(engine, tokens, token_ring, settings)),
            "token_ring": _always(token_ring),
            "strangers": _always(strangers),
            "ingress": _always(ingress),
            "bell": _always(bell),
            "news": _always(news),
            "readiness": _always(readiness),
            "settings": _always(settings),
            "store": _always(store),
            "gauges": _always(gauges),
            "listing": Provide(listing, sync_to_thread=False),
            "once": Provide(once, sync_to_thread=False),
        },
        exception_handlers={HTTPException: answer_error, Exception: answer_error},
        lifespan=[_lifespan((bell, ingress, news, limiter), readiness, (engine, tenants, intake))],
        openapi_config=describe(PREFIX, (STATIC / "page" / "index.html").read_bytes()),
        cors_config=cross_origin(settings.allowed_origins),
        request_class=GatedRequest,
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
        debug=False,
    )
    app.proxies = settings.proxy_networks
    app.state.key_ring = key_ring
    app.state.token_ring = token_ring
    app.state.readiness = readiness
    app.state.news = news
    app.state.limiter = limiter
    app.state.strangers = strangers
    return app


def _a_name(request: Request[Any, Any, Any]) -> None:
    if "\0" in request.scope["path"]:  # no file system has such a name, and Python will not ask it
        raise NotFoundException


def _caller(request: Request[Caller, Any, Any]) -> Caller:
    return request.user


def _of_caller(tenants: Engine) -> Provide:
    def database(request: Request[Caller, Any, Any]) -> TenantDatabase:
        return TenantDatabase(tenants, request.user.tenant_id)

    return Provide(database, sync_to_thread=False)


def _always(value: Any) -> Provide:
    return Provide(lambda: value, use_cache=True, sync_to_thread=False)


def _lifespan(
    parts: Sequence[AbstractAsyncContextManager[object]], readiness: Readiness, engines: Sequence[Engine]
) -> Any:
    """`parts` are entered in their order and left in the other."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                await stack.enter_async_context(part)
            logger.info("process_started", role="api")
            yield
            readiness.stopping = True
        for engine in engines:
            engine.dispose()
        logger.info("shutdown_complete", role="api")

    return lifespan
