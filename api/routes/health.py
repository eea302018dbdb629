"""Health: live while the process turns, ready while PostgreSQL answers at the schema this code was written for."""

import time
from typing import Any

import anyio
import anyio.to_thread
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from msgspec import Struct
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from api.relay_bell import RelayBell
from domain.fleet.workers import LOST_AFTER_S, list_processes
from ops.telemetry import VERSION

_TIMEOUT_S = 1.5
_REMEMBER_S = 1.0


class Live(Struct):
    """The process turns."""

    status: str = "ok"


class Ready(Struct):
    """`ready` or `not_ready`, and what was checked: `ok` or `down`."""

    status: str
    checks: dict[str, str]


class Health(Struct):
    """For people: healthy, degraded (something that can wait is down) or unhealthy."""

    status: str
    version: str
    services: dict[str, str]


class Readiness:
    """The checks, remembered for a second so that probes never become a load."""

    def __init__(self, engine: Engine, bell: RelayBell, required: frozenset[str], schema: str | None) -> None:
        self._engine, self._bell, self._required, self._schema = engine, bell, required, schema
        self._checked_at = float("-inf")
        self._checks: dict[str, str] = {}
        self.stopping = False

    async def checks(self) -> dict[str, str]:
        if time.monotonic() - self._checked_at > _REMEMBER_S:
            database, redis = await self._database_answers(), await self._bell.answers()
            self._checks = {"postgresql": "ok" if database else "down", "redis": "ok" if redis else "down"}
            self._checked_at = time.monotonic()
        return self._checks

    def ready(self, checks: dict[str, str]) -> bool:
        return not self.stopping and all(checks[name] == "ok" for name in self._required)

    async def _database_answers(self) -> bool:
        try:
            with anyio.fail_after(_TIMEOUT_S):
                return await anyio.to_thread.run_sync(self._ping, abandon_on_cancel=True)
        except (SQLAlchemyError, TimeoutError):
            return False

    def _ping(self) -> bool:
        with self._engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return self._schema is None or found == self._schema


@get(["/livez", "/health/live"], summary="Is the process alive?", tags=["Health"], sync_to_thread=False)
def live() -> Live:
    """200 while the process turns; asks nobody."""
    return Live()


@get(
    ["/readyz", "/health/ready", "/ready"],
    summary="Can it serve?",
    tags=["Health"],
    responses={503: ResponseSpec(Ready, description="It cannot serve")},
)
async def ready(readiness: NamedDependency[Readiness]) -> Response[Ready]:
    """503 while PostgreSQL is away or the process is stopping. Redis away is reported, and does not stop the intake."""
    checks = await readiness.checks()
    is_ready = readiness.ready(checks)
    return Response(Ready("ready" if is_ready else "not_ready", checks), status_code=200 if is_ready else 503)


@get(
    ["/health", "/api/v1/health"],
    summary="How is everything?",
    tags=["Health"],
    responses={503: ResponseSpec(Health, description="Unhealthy")},
)
async def health(readiness: NamedDependency[Readiness], engine: NamedDependency[Engine]) -> Response[Health]:
    """The API's dependencies and the processes of the fleet, by their own beats."""
    checks = await readiness.checks()
    if checks["postgresql"] == "down":
        return Response(Health("unhealthy", VERSION, checks), status_code=503)
    services = checks | await anyio.to_thread.run_sync(_fleet, engine)
    status = "healthy" if set(services.values()) == {"ok"} else "degraded"
    return Response(Health(status, VERSION, services))


def _fleet(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        processes: Any = list_processes(connection)
    alive = {process.role for process in processes if process.silent_seconds < LOST_AFTER_S}
    return {role: "ok" if role in alive else "down" for role in ("relay", "rescuer", "scheduler", "worker")}
