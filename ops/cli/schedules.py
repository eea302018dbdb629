"""`longshore schedules`: what runs by the calendar, when it runs next, and changing that while everything runs."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.schedules.schedule_rules import CatchUp
from ops.cli.confirm import confirm
from ops.cli.database import database
from ops.cli.options import By, Json, Reason, Yes, operator
from ops.cli.output import ExitCode, answering, cell, leave

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

app = typer.Typer(no_args_is_help=True, help="Schedules: list, show, next, add, pause, resume, run-now, remove.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A schedule.", show_default=False)]

_COLUMNS = {
    "name": "name",
    "kind": "kind",
    "cron": "cron",
    "zone": "timeZone",
    "catch up": "catchUp",
    "tenant": "tenant",
    "state": "state",
    "next": "nextAt",
    "last fired": "lastFiredAt",
}


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every schedule, and when it fires next."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules.schedules import list_schedules

        with engine.begin() as tx:
            rows = list_schedules(tx)
        out.records([_schedule(row) for row in rows], _COLUMNS, "There are no schedules.")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Everything known about one."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules.schedules import get_schedule

        with engine.begin() as tx:
            schedule = _schedule(get_schedule(tx, name))
        out.document(schedule) if as_json else out.fields(schedule)


@app.command("next")
def next_(
    name: Name,
    count: Annotated[int, typer.Option("--count", min=1, max=1_000, help="So many.")] = 5,
    as_json: Json = False,
) -> None:
    """Its next ticks, in UTC and on the clock of its time zone."""
    with answering(as_json) as out, database() as engine:
        from itertools import islice

        from domain.schedules.schedules import calendar_of, get_schedule

        with engine.begin() as tx:
            calendar, now = calendar_of(get_schedule(tx, name)), _now(tx)
        ticks = islice(calendar.ticks_after(now), count)
        shown = [{"tick": tick, "local": tick.astimezone(calendar.zone).isoformat()} for tick in ticks]
        out.records(shown, {"tick": "tick", "local": "local"}, "")


@app.command()
def add(  # noqa: PLR0913  # one option per field
    name: Name,
    *,
    kind: Annotated[str, typer.Option("--kind", help="The kind of its jobs.", show_default=False)],
    cron: Annotated[str, typer.Option("--cron", help="Minute hour day month weekday.", show_default=False)],
    args: Annotated[str, typer.Option("--args", help="The arguments of each job, as JSON.")] = "{}",
    zone: Annotated[str, typer.Option("--zone", help="The IANA time zone whose clock it goes by.")] = "UTC",
    catch_up: Annotated[CatchUp, typer.Option("--catch-up", help="What becomes of missed ticks.")] = CatchUp.SKIP,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose jobs they are.")] = "default",
    by: By = "",
    as_json: Json = False,
) -> None:
    """Make one. It fires from its next tick on.

    Example: longshore schedules add nightly --kind invariants.check --cron "30 2 * * *" --zone Europe/Berlin
    """
    with answering(as_json) as out, database() as engine:
        from domain.schedules.schedule_plan import plan_schedule
        from domain.schedules.schedules import add_schedule, get_schedule
        from domain.schedules.standing import RESERVED
        from domain.tenants.tenants import find_tenant

        if name.startswith(RESERVED):
            leave(ExitCode.REFUSED, f"Names that begin with {RESERVED} are for schedules that the code declares.")
        plan = plan_schedule(name=name, kind=kind, args=_arguments(args), cron=cron, time_zone=zone, catch_up=catch_up)
        with engine.begin() as tx:
            next_at = add_schedule(tx, plan, find_tenant(tx, tenant), _now(tx), operator(by))
            shown = _schedule(get_schedule(tx, name))
        out.document(shown) if as_json else out.say(f"Schedule {name} fires at {cell(next_at)}.")


@app.command()
def pause(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """It fires no more, until it is resumed."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules.schedules import get_schedule, pause_unless_paused

        with engine.begin() as tx:
            pause_unless_paused(tx, name, _now(tx), operator(by), reason)
            shown = _schedule(get_schedule(tx, name))
        out.document(shown) if as_json else out.say(f"Schedule {name} is paused.")


@app.command()
def resume(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """It fires from its next tick on; those that passed meanwhile are not made up for."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules import schedules

        with engine.begin() as tx:
            next_at = schedules.resume(tx, name, _now(tx), operator(by), reason)
            shown = _schedule(schedules.get_schedule(tx, name))
        out.document(shown) if as_json else out.say(f"Schedule {name} fires at {cell(next_at)}.")


@app.command("run-now")
def run_now(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """One job of it now, whether it is paused or not; its ticks stay as they are."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules import schedules

        with engine.begin() as tx:
            job_id = schedules.run_now(tx, name, _now(tx), operator(by), reason)
        out.document({"name": name, "jobId": job_id}) if as_json else out.say(f"It runs as job {job_id}.")


@app.command()
def remove(name: Name, reason: Reason = None, by: By = "", yes: Yes = False, as_json: Json = False) -> None:
    """It is gone; the jobs that it made stay."""
    with answering(as_json) as out, database() as engine:
        from domain.schedules.schedules import get_schedule, remove_schedule
        from domain.schedules.standing import RESERVED

        with engine.begin() as tx:
            row = get_schedule(tx, name)
        if name.startswith(RESERVED):
            leave(ExitCode.REFUSED, f"The code declares {name}: pause it instead. Nothing was done.")
        confirm(f"Remove schedule {name} ({row.kind}, {row.cron} {row.time_zone})?", yes)
        with engine.begin() as tx:
            remove_schedule(tx, name, operator(by), reason)
        out.document({"name": name, "removed": True}) if as_json else out.say(f"Schedule {name} is removed.")


def _schedule(row: "Row[Any]") -> dict[str, Any]:
    from ops.cli.records import masked, record

    return {**record(row), "args": masked(row.args), "state": "paused" if row.paused_at else "on"}


def _arguments(text: str) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        leave(ExitCode.USAGE, f"--args: has to be a JSON object: {error}")


def _now(tx: "Connection") -> Any:
    from domain.database import database_clock

    return database_clock(tx)
