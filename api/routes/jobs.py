"""Jobs as the callers behind them see them: one monitor to poll, always 200, done or not."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Semaphore
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, Response, Router, get, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from sqlalchemy import Engine, Row

from api.conditions import IfNoneMatch, Prefer, entity_tag, has_seen, preferred_wait_s
from api.envelope import Page, Success
from api.job_news import JobNews
from api.leaving import leaving
from api.pages import Listing
from api.tenant_database import TenantDatabase
from api.threads import LONGEST_WAIT_S
from domain import aftermath
from domain.errors import Overloaded
from domain.jobs.queries import JobFilter, get_job, held_jobs, list_jobs
from domain.jobs.results import readable_result, result_expires_at
from domain.jobs.state_machine import TERMINAL, JobState
from domain.tenants.callers import Caller
from domain.tenants.permission_rules import JOBS_READ, JOBS_WRITE

State = Literal["scheduled", "queued", "running", "retrying", "succeeded", "dead", "cancelled"]
StateFilter = Annotated[State | None, QueryParameter(name="state", required=False)]
ParentFilter = Annotated[UUID | None, QueryParameter(name="parentId", required=False)]
KindFilter = Annotated[str | None, QueryParameter(name="kind", required=False, max_length=100)]

#: Of the few sessions that look up everybody's keys, so many may be used to ask what workers hold.
_ROOM = Semaphore(2)
#: What the answer depends on besides who asks.
_VARY = "Prefer"
#: What a caller may know of an error. The rest is the operators': messages can carry what is not the caller's to see.
_ERRORS = {
    JobState.DEAD: "The job gave up; an operator can replay it.",
    JobState.RETRYING: "The last attempt did not succeed; the job will be tried again.",
}


class JobError(Struct, rename="camel"):
    """Why the last attempt did not succeed."""

    code: str
    message: str


class Progress(Struct, rename="camel"):
    """How far a running job has come; `total` is null while unknown."""

    done: int
    total: int | None
    message: str


class Children(Struct, rename="camel"):
    """What has become of the jobs that a job waits for, or waited for until it fired."""

    total: int
    waiting: int
    succeeded: int
    dead: int
    cancelled: int


class JobView(Struct, rename="camel"):
    """One job (after AIP-151). `done` is true for succeeded, dead and cancelled; then `result` or `error` is set.

    After `resultExpiresAt`, if there is one, the result is gone and the job stays.
    """

    id: UUID
    kind: str
    state: State
    done: bool
    attempts: int
    priority: int
    progress: Progress | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: dict[str, Any] | None = None
    result_expires_at: datetime | None = None
    error: JobError | None = None
    deadline_at: datetime | None = None
    parent_id: UUID | None = None
    children: Children | None = None


def show_job(job: Row[Any]) -> JobView:
    """A row of `jobs` as its owner sees it; `children` only when the row was read with them."""
    state = JobState(job.state)
    children = job._mapping.get("children")
    error = JobError(job.last_error["class"], _ERRORS[state]) if job.last_error and state in _ERRORS else None
    return JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        done=state in TERMINAL,
        attempts=job.attempt,
        priority=job.priority,
        progress=Progress(**job.progress) if job.progress else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        result=readable_result(job, datetime.now(UTC)),
        result_expires_at=result_expires_at(job),
        error=error,
        deadline_at=job.deadline_at,
        parent_id=job.parent_id,
        children=Children(**children) if children else None,
    )


@get("/", summary="List jobs", permission=JOBS_READ, sync_to_thread=True)
def get_jobs(
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    engine: NamedDependency[Engine],
    listing: NamedDependency[Listing],
    in_state: StateFilter = None,
    kind: KindFilter = None,
    parent_id: ParentFilter = None,
) -> Response[Page[JobView]]:
    """The tenant's jobs."""
    stretch = listing.stretch()
    wanted = JobFilter(state=in_state, kind=kind, parent_id=parent_id)
    among = _held(engine) if in_state == "running" else None
    with database.connect() as connection:
        rows = list_jobs(connection, caller.tenant_id, wanted, stretch, among=among)
    return listing.page(rows, show_job)


def _held(engine: Engine) -> Sequence[UUID]:
    if not _ROOM.acquire(timeout=LONGEST_WAIT_S):
        raise Overloaded
    try:
        with engine.connect() as connection:
            return held_jobs(connection)
    finally:
        _ROOM.release()


@get(
    "/{job_id:str}",
    summary="Read a job",
    permission=JOBS_READ,
    responses={304: ResponseSpec(None, description="It has not changed")},
)
async def get_one_job(
    request: Request[Caller, Any, Any],
    job_id: FromPath[UUID],
    database: NamedDependency[TenantDatabase],
    news: NamedDependency[JobNews],
    prefer: Prefer = None,  # noqa: ARG001  # declares the header, which may stand on several lines
    if_none_match: IfNoneMatch = None,
) -> Response[Success[JobView]]:
    """The monitor of a job: 200 whatever its state, with Retry-After while it is not done. With `Prefer: wait=N` it
    answers when the job is done, or differs from `If-None-Match`, or after N seconds.
    """
    job = await read_job(database, request.user.tenant_id, job_id)
    wait_s = preferred_wait_s(request.headers.getall("prefer", []))
    if wait_s and _is_worth_waiting_for(job, if_none_match):
        job = await _wait(news, request, job, if_none_match, wait_s)
    return _monitor(job, wait_s)


async def read_job(database: TenantDatabase, tenant_id: UUID, job_id: UUID) -> Row[Any]:
    """One job of this tenant, read in a thread. Raises NotFound."""

    def read() -> Row[Any]:
        with database.connect() as connection:
            return get_job(connection, tenant_id, job_id)

    return await sync_to_thread(read)


def _is_worth_waiting_for(job: Row[Any], if_none_match: str | None) -> bool:
    return job.state not in TERMINAL and (if_none_match is None or has_seen(if_none_match, _entity_tag(job)))


async def _wait(
    news: JobNews, request: Request[Caller, Any, Any], job: Row[Any], if_none_match: str | None, wait_s: int
) -> Row[Any]:
    """The job when the waiting has ended: by its news, its time, the caller's leaving or this process's."""
    ends_at = time.monotonic() + wait_s
    with news.waiting(job) as waiter, leaving(request, waiter.wake) as has_left:
        while _is_worth_waiting_for(job, if_none_match) and not (news.closing or has_left()):
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                break
            job = await waiter.next(left_s) or job
    return job


def _entity_tag(job: Row[Any]) -> str:
    """The version of the row; a result expires in between."""
    expired = job.result is not None and readable_result(job, datetime.now(UTC)) is None
    return entity_tag(job.version, "expired" if expired else None)


def _monitor(job: Row[Any], wait_s: int | None) -> Response[Success[JobView]]:
    headers = {"ETag": _entity_tag(job), "Vary": _VARY}
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s}"
    shown = show_job(job)
    return Response(Success(data=shown), headers=headers if shown.done else {**headers, "Retry-After": "1"})


@post("/{job_id:str}/cancel", summary="Cancel a job", permission=JOBS_WRITE, status_code=202, sync_to_thread=True)
def cancel_job(
    job_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    database: NamedDependency[TenantDatabase],
    news: NamedDependency[JobNews],
) -> Response[Success[JobView]]:
    """A waiting job is cancelled at once; a running one is asked to stop."""
    with database.begin() as tx:
        aftermath.cancel(tx, caller.tenant_id, job_id)
        shown = show_job(get_job(tx, caller.tenant_id, job_id))
    news.announce_from_thread(job_id)
    headers = {"Location": f"/api/v1/jobs/{job_id}", "Retry-After": "1"}
    return Response(Success(data=shown), status_code=202, headers=headers)


router = Router("/jobs", route_handlers=[get_jobs, get_one_job, cancel_job], tags=["Jobs"])
