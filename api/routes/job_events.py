"""A job as it changes, as Server-Sent Events (WHATWG HTML, 9.2): an event is the row, its id the row's version.

A stream says what the job is now whenever that has changed, not every step on the way; so it needs no memory, and
whoever reconnects with the last id misses nothing that still holds.
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream
from sqlalchemy import Row

from api.job_news import JobNews
from api.routes.jobs import read_job, show_job
from api.tenant_database import TenantDatabase
from domain.jobs.state_machine import TERMINAL
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import JOBS_READ

LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", required=False, description="The `id` of the last event seen"),
]
#: Keeps proxies from ending a silent connection, and finds out that nobody listens.
HEARTBEAT_S = 15.0
#: A client reconnects after this by itself, and shows its key again: a revoked one does not listen on for days.
LONGEST_STREAM_S = 300.0
RETRY_MS = 3_000

_STREAM = ResponseSpec(
    str,
    media_type="text/event-stream",
    description="`job.state` events, each with the job as reading it shows it; ends after its terminal state",
    generate_examples=False,
)


@get(
    "/{job_id:str}/events",
    summary="Follow a job",
    permission=JOBS_READ,
    media_type="text/event-stream",
    responses={200: _STREAM, 204: ResponseSpec(None, description="The job had ended at the last event: stop asking")},
)
async def follow_job(
    job_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    news: NamedDependency[JobNews],
    last_event_id: LastEventId = None,
) -> Response[Any]:
    """Server-Sent Events: the job's state now, unless `Last-Event-ID` is that of it, and whenever it has changed."""
    job = await read_job(database, caller.tenant_id, job_id)
    seen = last_event_id == str(job.version)
    if seen and job.state in TERMINAL:
        return Response(None, status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = events_of(news, job, seen)
    await anext(events)  # has its place from here on, before it is answered 200, until it is closed or dropped
    return Stream(events, media_type="text/event-stream", headers=headers)


async def events_of(news: JobNews, job: Row[Any], seen: bool) -> AsyncIterator[str]:
    """What the stream says; the first is for nobody, and tells that it has its place. Raises TooManyWaiters instead."""
    with news.waiting(job) as waiter:
        yield ""
        yield f"retry: {RETRY_MS}\n\n"
        if not seen:
            yield _event(job)
        ends_at = time.monotonic() + LONGEST_STREAM_S
        while job.state not in TERMINAL and not news.closing and time.monotonic() < ends_at:
            newer = await waiter.next(HEARTBEAT_S)
            yield ": nothing new\n\n" if newer is None else _event(newer)
            job = newer or job


def _event(job: Row[Any]) -> str:
    return f"id: {job.version}\nevent: job.state\ndata: {msgspec.json.encode(show_job(job)).decode()}\n\n"


router = Router("/jobs", route_handlers=[follow_job], tags=["Jobs"])
