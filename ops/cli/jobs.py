"""`longshore jobs`: what became of a piece of work, and hurrying it, stopping it or watching it."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Annotated
from uuid import UUID

import typer

from domain.jobs.priority_rules import HIGHEST, LOWEST
from domain.jobs.state_machine import JobState
from ops.cli.confirm import confirm
from ops.cli.database import database
from ops.cli.options import By, Json, Limit, Reason, Yes, operator, read_id, read_word, refuse_unknown
from ops.cli.output import answering

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, retry now, reprioritise, cancel, watch.")

Id = Annotated[UUID, typer.Argument(metavar="ID", parser=read_id, help="A job.", show_default=False)]

_LIST = {
    "id": "id",
    "kind": "kind",
    "queue": "queue",
    "state": "state",
    "attempts": "attempts",
    "created": "createdAt",
    "due": "dueAt",
    "error": "lastError",
}


@app.command("list")
def list_(
    *,
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", parser=read_word, metavar="KIND", help="Only jobs of this kind.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", parser=read_word, metavar="QUEUE", help="Only jobs of this queue.")
    ] = None,
    order: Annotated[
        UUID | None, typer.Option("--order", parser=read_id, metavar="ID", help="Only jobs of this order.")
    ] = None,
    parent: Annotated[
        UUID | None, typer.Option("--parent", parser=read_id, metavar="ID", help="Only jobs that this job waits for.")
    ] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """The newest jobs.

    Example: longshore jobs list --state retrying --queue webhooks
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.queries import JobFilter, list_jobs
        from domain.stretch import Stretch
        from ops.cli.records import job_record

        with engine.begin() as tx:
            rows = list_jobs(tx, None, JobFilter(state, kind, queue, order, parent), Stretch(limit))
        if not rows:
            refuse_unknown(kind, queue)
        empty = "No jobs match." if state or kind or queue or order or parent else "There are no jobs."
        out.records([job_record(row) for row in rows], _LIST, empty)


@app.command()
def show(job_id: Id, as_json: Json = False) -> None:
    """Everything known about one: its fields, each attempt, and whether an obligation to run it stands."""
    with answering(as_json) as out, database() as engine:
        from ops.cli import job_page

        with engine.begin() as tx:
            page = job_page.load(tx, job_id)
        job_page.show(out, page)


@app.command()
def retry(job_id: Id, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """Run it now instead of later; a dead one is replayed, which resolves its dead letter."""
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import replay_if_open
        from domain.jobs.queries import get_job
        from domain.jobs.retry_now import latest_dead_letter_of, make_due_now_if_waiting

        with engine.begin() as tx:
            job = get_job(tx, None, job_id)
            letter = latest_dead_letter_of(tx, job_id) if job.state == JobState.DEAD else None
            if letter is None:
                make_due_now_if_waiting(tx, job_id, operator(by), reason)
            else:
                replay_if_open(tx, letter.id, operator(by), reason)
        done = {"id": job_id, "was": job.state, "deadLetterId": letter.id if letter else None}
        said = f"Replayed: job {job_id} is queued." if letter else f"Job {job_id} is due now."
        out.document(done) if as_json else out.say(said)


@app.command()
def reprioritise(
    job_id: Id,
    to: Annotated[
        int, typer.Option("--to", min=LOWEST, max=HIGHEST, help="The higher goes first.", show_default=False)
    ],
    reason: Reason = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Let it overtake, or be overtaken by, the other jobs of its queue, while it waits.

    Example: longshore jobs reprioritise 019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10 --to 2
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.priority import reprioritise_if_waiting

        with engine.begin() as tx:
            reprioritise_if_waiting(tx, job_id, to, operator(by), reason)
        said = f"Job {job_id} has the priority {to}."
        out.document({"id": job_id, "priority": to}) if as_json else out.say(said)


@app.command()
def cancel(job_id: Id, reason: Reason = None, by: By = "", yes: Yes = False, as_json: Json = False) -> None:
    """Stop it: at once while it waits, as soon as its handler listens while it runs. It cannot be replayed."""
    with answering(as_json) as out, database() as engine:
        from domain.aftermath import cancel as cancel_job
        from domain.audit import record_act
        from domain.jobs.queries import get_job

        with engine.begin() as tx:
            job = get_job(tx, None, job_id)
        if job.state not in {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED}:
            confirm(f"Cancel job {job_id}, {job.kind}, which is {job.state}, for good?", yes)
        with engine.begin() as tx:
            cancelled = cancel_job(tx, job.tenant_id, job_id)
            act = "job.cancelled" if cancelled else "job.cancel_requested"
            record_act(tx, job.tenant_id, operator(by), act, str(job_id), reason)
        said = f"Job {job_id} is cancelled." if cancelled else f"Job {job_id} runs; it was asked to stop."
        out.document({"id": job_id, "cancelled": cancelled is not None}) if as_json else out.say(said)


@app.command()
def watch(
    job_id: Id,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds; then exit code 7.")] = None,
    as_json: Json = False,
) -> None:
    """Follow it until it is done. Exit code 0 = succeeded, 1 = dead or cancelled, 7 = the time was up."""
    with answering(as_json) as out, database() as engine:
        from ops.cli import job_watch

        raise typer.Exit(job_watch.watch(out, engine, job_id, timeout))
