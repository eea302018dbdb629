"""`longshore retention`: old jobs leave now instead of within the hour, or are counted first."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.confirm import confirm, counted
from ops.cli.database import database
from ops.cli.options import By, Json, Yes, operator
from ops.cli.output import ExitCode, Output, answering, cell, complain

if TYPE_CHECKING:
    from workers.retention import Outlook, Retained

app = typer.Typer(no_args_is_help=True, help="Retention: run it now, or see what it would drop.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would leave, and do nothing.")]

_COLUMNS = {"partition": "partition", "rows": "rows", "staying": "staying"}


@app.callback()
def _retention() -> None:
    """Keeps `run` a command of its own."""


@app.command()
def run(dry_run: DryRun = False, by: By = "", yes: Yes = False, as_json: Json = False) -> None:
    """Drop the jobs that finished more than JOB_RETENTION_DAYS days ago. Exit code 5 = some have to wait.

    Their events and resolved dead letters leave after them, and all that hangs on deleted endpoints. The scheduler does
    the same by the hour. What else waits or runs stays, however old it is, and so does what a replay would need.
    """
    with answering(as_json) as out, database() as engine:
        from domain.audit import record_act
        from ops.settings import load_settings
        from workers.retention import foresee, retain

        days = load_settings().job_retention_days
        outlook = foresee(engine, days)
        if dry_run:
            return _preview(out, outlook)
        leaving = sum(one.rows - one.staying for one in outlook.partitions) + outlook.strays
        confirm(
            f"{_ends(outlook)}Drop {leaving:,} rows of jobs and attempts, finished before {cell(outlook.cutoff)}, "
            f"{_records(outlook)}?",
            yes,
        )
        done = retain(engine, days)
        with engine.begin() as tx:
            record_act(tx, None, operator(by), "retention.run", "jobs", None, done.facts())
        _report(out, done)
        raise typer.Exit(ExitCode.PARTIAL if done.postponed or done.kept else ExitCode.OK)


def _preview(out: Output, outlook: "Outlook") -> None:
    if out.as_json:
        return out.document(outlook)
    out.records(
        [{"partition": one.partition, "rows": one.rows, "staying": one.staying} for one in outlook.partitions],
        _COLUMNS,
        "No week is old enough to be dropped.",
    )
    out.say(f"{outlook.strays:,} expired outside the weeks, {outlook.results:,} results expired.")
    out.say(f"After them leave {_records(outlook)}. {_ends(outlook)}Nothing was done.")
    return None


def _records(outlook: "Outlook") -> str:
    return f"{outlook.events:,} events and {outlook.dead_letters:,} resolved dead letters"


def _ends(outlook: "Outlook") -> str:
    if not outlook.deleted_endpoints:
        return ""
    ended = counted(outlook.deleted_endpoints, "deleted endpoint")
    return f"Of {ended} the history leaves and what waits is cancelled. "


def _report(out: Output, done: "Retained") -> None:
    if out.as_json:
        return out.document(done)
    for name in done.dropped:
        out.say(f"Dropped {name}.")
    out.say(
        f"{done.rows_dropped + done.strays_deleted:,} rows left, {done.rows_moved:,} moved, "
        f"{done.results_forgotten:,} results forgotten."
    )
    out.say(
        f"{done.events_deleted:,} events, {done.deliveries_deleted:,} deliveries and {done.dead_letters_deleted:,} "
        "resolved dead letters left after their jobs."
    )
    if done.endpoints_deleted:
        ended = counted(done.endpoints_deleted, "deleted endpoint")
        out.say(f"Of {ended} the history left and what waited was cancelled.")
    for name in done.postponed:
        complain(f"{name} has to wait: it is being read.")
    for name in done.kept:
        complain(f"{name} is kept whole: too many of its jobs have not finished.")
    return None
