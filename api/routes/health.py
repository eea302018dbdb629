"""Health: live while the process turns, ready while PostgreSQL answers at the schema this code was written for.

Without a key, a limit, or a detail for strangers. Asked for `application/health+json`, ready and detailed health answer
in that form (draft-inadarei-api-health-check-06).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from msgspec import Struct
from sqlalchemy import Engine

from api.readiness import Check, Readiness, timed
from domain.fleet.workers import LOST_AFTER_S, last_beats
from domain.jobs.kind import queues
from ops.telemetry import VERSION

HEALTH_JSON = "application/health+json"


class Live(Struct):
    """The process turns."""

    status: str = "ok"


class Ready(Struct):
    """`ready` or `not_ready`, and what was checked: `ok` or `down`."""

    status: str
    checks: dict[str, str]


class Service(Struct, rename="camel"):
    """One part: healthy or unhealthy, how long the answer took, and when it was last known to be there."""

    status: str
    response_time: str
    last_check: datetime | None


class Health(Struct):
    """For people: healthy, degraded (something that can wait is down) or unhealthy."""

    status: str
    timestamp: datetime
    version: str
    services: dict[str, Service]
    database: dict[str, str]


@get(["/livez", "/health/live"], summary="Is the process alive?", tags=["Health"], sync_to_thread=False)
def live() -> Live:
    """200 while the process turns; asks nobody."""
    return Live()


@get(
    ["/readyz", "/health/ready", "/ready"],
    summary="Can it serve?",
    tags=["Health"],
    responses={
        200: ResponseSpec(Ready, description="It can serve"),
        503: ResponseSpec(Ready, description="It cannot serve"),
    },
)
async def ready(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Any]:
    """503 while PostgreSQL is away or the process is stopping. Redis away is reported, and does not stop the intake."""
    checks = await readiness.checks()
    is_ready = readiness.ready(checks)
    if HEALTH_JSON in request.headers.get("accept", ""):
        return _health_json(checks, is_ready=is_ready)
    words = {name: "ok" if check.is_ok else "down" for name, check in checks.items()}
    return Response(Ready("ready" if is_ready else "not_ready", words), status_code=200 if is_ready else 503)


@get(
    ["/health", "/api/v1/health"],
    summary="How is everything?",
    tags=["Health"],
    responses={
        200: ResponseSpec(Health, description="Healthy or degraded"),
        503: ResponseSpec(Health, description="Unhealthy"),
    },
)
async def health(
    request: Request[Any, Any, Any], readiness: NamedDependency[Readiness], engine: NamedDependency[Engine]
) -> Response[Any]:
    """The API's dependencies, and the processes of the fleet by their own beats: `worker:<queue>` serves that queue."""
    checks = await readiness.checks()
    services = {name: _service(check) for name, check in checks.items()}
    if checks["postgresql"].is_ok:
        services |= await _fleet(engine)
    is_ok = all(service.status == "healthy" for service in services.values())
    if HEALTH_JSON in request.headers.get("accept", ""):
        return _health_json(checks, is_ready=checks["postgresql"].is_ok, is_whole=is_ok)
    status = "unhealthy" if not checks["postgresql"].is_ok else "healthy" if is_ok else "degraded"
    database = {name: "connected" if check.is_ok else "disconnected" for name, check in checks.items()}
    body = Health(status, datetime.now(UTC), VERSION, services, database)
    return Response(body, status_code=503 if status == "unhealthy" else 200)


def _service(check: Check) -> Service:
    return Service("healthy" if check.is_ok else "unhealthy", f"{check.took_ms:.0f}ms", check.at)


async def _fleet(engine: Engine) -> dict[str, Service]:
    beats: dict[str, tuple[datetime, float]] = {}

    async def read() -> bool:
        beats.update(await anyio.to_thread.run_sync(_beats, engine))
        return True

    asked = await timed(read)
    services = {}
    for name in ("relay", "rescuer", "scheduler", *(f"worker:{queue}" for queue in queues())):
        seen_at, silent_s = beats.get(name, (None, float("inf")))
        is_alive = silent_s < LOST_AFTER_S
        services[name] = Service("healthy" if is_alive else "unhealthy", f"{asked.took_ms:.0f}ms", seen_at)
    return services


def _beats(engine: Engine) -> dict[str, tuple[datetime, float]]:
    with engine.connect() as connection:
        return last_beats(connection)


def _health_json(checks: Mapping[str, Check], *, is_ready: bool, is_whole: bool = True) -> Response[Any]:
    found = {
        f"{name}:responseTime": [
            {
                "componentType": "datastore",
                "observedValue": check.took_ms,
                "observedUnit": "ms",
                "status": "pass" if check.is_ok else "fail",
                "time": check.at,
            }
        ]
        for name, check in checks.items()
    }
    is_whole = is_whole and all(check.is_ok for check in checks.values())
    status = "fail" if not is_ready else "pass" if is_whole else "warn"
    body = {"status": status, "version": VERSION, "serviceId": "longshore-api", "checks": found}
    return Response(body, status_code=200 if is_ready else 503, media_type=HEALTH_JSON)
