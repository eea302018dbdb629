"""Jobs as the callers behind them see them: one monitor to poll, always 200, done or not."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from sqlalchemy import Engine, Row

from api.envelope import Page, Success
from api.pages import DEFAULT_LIMIT, Cursor, Limit, page, start_id
from domain import aftermath
from domain.jobs.queries import JobFilter, get_job, list_jobs
from domain.jobs.state_machine import TERMINAL, JobState
from domain.tenants.keys import Caller

State = Literal["scheduled", "queued", "running", "retrying", "succeeded", "dead", "cancelled"]
StateFilter = Annotated[State | None, QueryParameter(name="state", required=False)]
KindFilter = Annotated[str | None, QueryParameter(name="kind", required=False, max_length=100)]

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


class JobView(Struct, rename="camel"):
    """One job (after AIP-151). `done` is true for succeeded, dead and cancelled; then `result` or `error` is set."""

    id: UUID
    kind: str
    state: State
    done: bool
    attempts: int
    progress: Progress | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: dict[str, Any] | None = None
    error: JobError | None = None


def show_job(job: Row[Any]) -> JobView:
    """A row of `jobs` as its owner sees it."""
    state = JobState(job.state)
    error = JobError(job.last_error["class"], _ERRORS[state]) if job.last_error and state in _ERRORS else None
    return JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        done=state in TERMINAL,
        attempts=job.attempt,
        progress=Progress(**job.progress) if job.progress else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        result=job.result,
        error=error,
    )


@get("/", summary="List jobs", sync_to_thread=True)
def get_jobs(
    caller: NamedDependency[Caller],
    engine: NamedDependency[Engine],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    in_state: StateFilter = None,
    kind: KindFilter = None,
) -> Page[JobView]:
    """The tenant's jobs, newest first."""
    start = start_id(cursor, "jobs", in_state, kind)
    with engine.connect() as connection:
        wanted = JobFilter(state=in_state, kind=kind)
        rows = list_jobs(connection, caller.tenant_id, wanted, after=start, limit=limit + 1)
    return page(rows, limit, show_job, "jobs", in_state, kind)


@get("/{job_id:str}", summary="Read a job", sync_to_thread=True)
def get_one_job(
    job_id: FromPath[UUID], caller: NamedDependency[Caller], engine: NamedDependency[Engine]
) -> Response[Success[JobView]]:
    """The monitor of a job: 200 whatever its state, with Retry-After while it is not done."""
    with engine.connect() as connection:
        shown = show_job(get_job(connection, caller.tenant_id, job_id))
    return Response(Success(data=shown), headers={} if shown.done else {"Retry-After": "1"})


@post("/{job_id:str}/cancel", summary="Cancel a job", status_code=202, sync_to_thread=True)
def cancel_job(
    job_id: FromPath[UUID], caller: NamedDependency[Caller], engine: NamedDependency[Engine]
) -> Success[JobView]:
    """A waiting job is cancelled at once; a running one is asked to stop."""
    with engine.begin() as tx:
        aftermath.cancel(tx, caller.tenant_id, job_id)
        return Success(data=show_job(get_job(tx, caller.tenant_id, job_id)))


router = Router("/jobs", route_handlers=[get_jobs, get_one_job, cancel_job], tags=["Jobs"])
