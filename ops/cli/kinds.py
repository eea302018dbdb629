"""`longshore kinds`: every kind of job that this version knows; pausing and limiting them."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Annotated

import typer

from ops.cli import controls
from ops.cli.controls import Most, MostOfTenant, NoLimits
from ops.cli.database import database
from ops.cli.options import By, Json, Reason
from ops.cli.output import Record, answering

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A kind.", show_default=False)]
Rate = Annotated[float | None, typer.Option("--per-second", min=0.001, help="At most so many start per second.")]

_COLUMNS = {
    "kind": "kind",
    "queue": "queue",
    "attempts": "maxAttempts",
    "timeout s": "timeoutSeconds",
    "bundle": "bundle",
    "priority": "priority",
    "state": "state",
    "limits": "limits",
}


@app.callback(invoke_without_command=True)
def kinds(context: typer.Context, as_json: Json = False) -> None:
    """Every kind: its queue, attempts, timeout, how many travel together, its priority, and what operators asked."""
    if context.invoked_subcommand is not None:
        return
    with answering(as_json) as out, database() as engine:
        from domain.jobs.controls import Control, read_controls
        from domain.jobs.kind import KINDS

        with engine.begin() as tx:
            held = {control.name: control for control in read_controls(tx) if control.scope == "kind"}
        names = sorted({*KINDS, *held})
        out.records(
            [{**_declared(name), **controls.control_fields(held.get(name, Control("kind", name)))} for name in names],
            _COLUMNS,
            "",
        )


@app.command()
def pause(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """Nothing of it starts until it is resumed; what runs, runs on, and other kinds of its queue do too.

    Example: longshore kinds pause report.generate --reason "the disk is full"
    """
    controls.pause("kind", name, reason, by, as_json)


@app.command()
def resume(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """It runs again, within its limits if it has any."""
    controls.resume("kind", name, reason, by, as_json)


@app.command()
def limit(  # noqa: PLR0913  # one per option
    name: Name,
    *,
    max_in_flight: Most = None,
    max_in_flight_per_tenant: MostOfTenant = None,
    per_second: Rate = None,
    none: NoLimits = False,
    reason: Reason = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Bound how many of its jobs are in flight, or start per second. Limits that are not named stay as they are.

    Example: longshore kinds limit email.order_confirmed --per-second 14
    """
    wanted: dict[str, float | None] = {
        "max_in_flight": max_in_flight,
        "max_in_flight_per_tenant": max_in_flight_per_tenant,
        "starts_per_second": per_second,
    }
    controls.limit("kind", name, wanted, none=none, reason=reason, by=by, as_json=as_json)


def _declared(name: str) -> Record:
    """What the code says; nothing of a kind that only another version knows."""
    from domain.jobs.kind import KINDS

    if (kind := KINDS.get(name)) is None:
        return {"kind": name}
    return {
        "kind": name,
        "queue": kind.queue,
        "maxAttempts": kind.retry.max_attempts,
        "timeoutSeconds": kind.timeout_s,
        "bundle": kind.bundle,
        "priority": kind.priority,
        "lane": kind.lane,
    }
