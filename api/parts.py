"""What one API process is made of, each part made once. Nothing is opened before the application is served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from litestar import Request
from litestar.di import Provide

from api.ingress import Ingress
from api.job_news import JobNews
from api.key_ring import KeyRing
from api.limits import Policy, RateLimiter
from api.log_ins import LogIns
from api.once import once
from api.pages import listing
from api.readiness import Readiness
from api.relay_bell import RelayBell
from api.routes.metrics import Gauges
from api.strangers import Strangers
from api.tenant_database import TenantDatabase
from api.threads import Threads
from api.token_ring import TokenRing
from api.tokens import AccessTokens, derived_seed
from domain.database import connect
from domain.reports.store import ReportStore
from domain.roles import API, INTAKE, TENANT
from domain.tenants.callers import Caller
from ops.settings import Settings
from ops.telemetry import log

logger = log(__name__)

#: One connection per thread that may serve a request; a few for looking up keys, news of jobs, and health.
POOL_SIZE = 20
OWN_POOL_SIZE = 5
STATEMENT_TIMEOUT_MS = 5_000
#: A PostgreSQL that has not even said by then that a statement took too long is frozen, or waits for its standby.
SILENCE_S = 6.0


class Parts:
    """Each under its name. Serving them is `lifespan`, handing them to handlers `dependencies`."""

    def __init__(self, settings: Settings, schema: str | None) -> None:
        self.settings = settings
        self._connect_all(settings)
        self.bell = RelayBell(settings.redis_url)
        self.readiness = Readiness(self.engine, self.bell, settings.required_for_readiness, schema)
        self.ingress = Ingress(self.intake, self.bell.ring)
        self.news = JobNews(self.engine, settings.redis_url)
        self.limiter = RateLimiter(settings.redis_url)
        anonymous = Policy("anonymous", settings.rate_limit_max_requests, settings.rate_limit_window_s)
        self.strangers = Strangers(self.limiter, anonymous)
        tokens = AccessTokens(settings.jwt_seeds or [derived_seed(settings.secret_bytes)], settings.access_lifetime)
        self.key_ring, self.token_ring = KeyRing(self.engine), TokenRing(self.engine, tokens)
        self.log_ins = LogIns(self.engine, tokens, self.token_ring, settings)
        self.store = ReportStore(settings.reports_url)
        self.gauges = Gauges(self.engine, self._engines)

    def _connect_all(self, settings: Settings) -> None:
        connect_as = partial(
            connect,
            settings.database_url,
            process="api",
            statement_timeout_ms=STATEMENT_TIMEOUT_MS,
            silence_s=SILENCE_S,
        )
        self.engine = connect_as(role=API.name, pool_size=OWN_POOL_SIZE)
        self.tenants = connect_as(role=TENANT.name, pool_size=POOL_SIZE)
        self.intake = connect(
            settings.database_url, process="ingress", role=INTAKE.name, pool_size=1, silence_s=SILENCE_S
        )
        self._engines = (self.engine, self.tenants, self.intake)

    def dependencies(self) -> dict[str, Provide]:
        """What handlers ask for by name."""
        shared = ("engine", "log_ins", "token_ring", "strangers", "ingress", "bell", "news", "readiness", "settings")
        return {
            **{name: _always(getattr(self, name)) for name in (*shared, "store", "gauges")},
            "caller": Provide(_caller, sync_to_thread=False),
            "database": Provide(self._database, sync_to_thread=False),
            "databases": _always(partial(TenantDatabase, self.tenants)),
            "listing": Provide(listing, sync_to_thread=False),
            "once": Provide(once, sync_to_thread=False),
        }

    def _database(self, request: Request[Caller, Any, Any]) -> TenantDatabase:
        return TenantDatabase(self.tenants, request.user.tenant_id)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Entered in this order and left in the other: what is accepted still rings."""
        asyncio.get_running_loop().set_default_executor(Threads(POOL_SIZE))  # where the framework runs handlers
        async with AsyncExitStack() as stack:
            for part in (self.bell, self.ingress, self.news, self.limiter):
                await stack.enter_async_context(part)
            logger.info("process_started", role="api")
            yield
            self.readiness.stopping = True
        for engine in self._engines:
            engine.dispose()
        logger.info("shutdown_complete", role="api")


def _caller(request: Request[Caller, Any, Any]) -> Caller:
    return request.user


def _always(value: Any) -> Provide:
    return Provide(lambda: value, use_cache=True, sync_to_thread=False)
