"""Following one job until it is done: a line per change, or a progress bar where there is a terminal."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from domain.jobs.queries import get_job
from domain.jobs.state_machine import TERMINAL, JobState
from domain.outages import is_outage
from ops.cli.output import ExitCode, Output, cell, complain, printable
from ops.cli.records import job_record, masked

POLL_S = 0.25

Show = Callable[[Row[Any]], None]


def watch(out: Output, engine: Engine, job_id: UUID, timeout_s: float | None) -> ExitCode:
    """Shows each change, and waits for a database that is away. Raises NotFound."""
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    job, version, is_away = _load(engine, job_id), 0, False
    with _shown(out) as show:
        while True:
            if job.version != version:
                show(job)
            version = job.version
            if JobState(job.state) in TERMINAL or time.monotonic() >= deadline:
                break
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
            seen = _look_again(engine, job_id)
            job, is_away = seen or job, seen is None
    return _verdict(job, is_away)


def _verdict(job: Row[Any], is_away: bool) -> ExitCode:
    if JobState(job.state) not in TERMINAL:
        if is_away:
            complain(f"The database does not answer. Job {job.id} was {job.state} when it last did.")
        else:
            complain(f"Job {job.id} is still {job.state}.")
        return ExitCode.TIMEOUT
    return ExitCode.OK if job.state == JobState.SUCCEEDED else ExitCode.ERROR


def _load(engine: Engine, job_id: UUID) -> Row[Any]:
    with engine.begin() as tx:
        return get_job(tx, None, job_id)


def _look_again(engine: Engine, job_id: UUID) -> Row[Any] | None:
    """The job as it is now. None while the database is away: exit code 1 is for the dead."""
    try:
        return _load(engine, job_id)
    except SQLAlchemyError as error:
        if not is_outage(error):
            raise
        return None


@contextmanager
def _shown(out: Output) -> Iterator[Show]:
    if out.as_json:
        yield lambda job: out.line(job_record(job))
    elif sys.stdout.isatty():
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(file=sys.stdout),
        ) as bar:
            task = bar.add_task("", total=None)
            yield lambda job: bar.update(task, **_bar(job))
    else:
        yield lambda job: out.say(_line(job))


def _bar(job: Row[Any]) -> dict[str, Any]:
    progress = job.progress or {}
    done = JobState(job.state) in TERMINAL
    total = progress.get("total") or (1 if done else None)
    return {
        "description": _line(job),
        "total": total,
        "completed": total if done else progress.get("done", 0),
    }


def _line(job: Row[Any]) -> str:
    """`report.generate running, attempt 1 of 3: 400 of 1000 rows written`"""
    words = [job.kind, f"{job.state}, attempt {job.attempt} of {job.max_attempts}"]
    if job.state in {JobState.SCHEDULED, JobState.RETRYING}:
        words.append(f"due {cell(job.due_at)}")
    if job.state in {JobState.RETRYING, JobState.DEAD} and job.last_error:
        words.append(f"({cell(masked(job.last_error))})")
    if job.state == JobState.RUNNING and (progress := job.progress):
        of = f" of {progress['total']}" if progress["total"] else ""
        words[-1] += f": {progress['done']}{of} {masked(progress['message'])}"
    return printable(" ".join(words))
