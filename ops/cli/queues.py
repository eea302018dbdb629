"""`longshore queues`: how much waits, runs and lies dead, per queue; pausing, draining and limiting them."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Annotated, Any

import typer

from ops.cli import controls
from ops.cli.controls import Most, MostOfTenant, NoLimits
from ops.cli.database import database
from ops.cli.options import By, Json, Reason
from ops.cli.output import Record, answering

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A queue.", show_default=False)]

_COLUMNS = {
    "queue": "queue",
    "due": "due",
    "bells": "bells",
    "later": "later",
    "held": "held",
    "running": "running",
    "dead": "dead",
    "oldest s": "oldestSeconds",
    "state": "state",
    "limits": "limits",
}
_EMPTY: dict[str, Any] = dict.fromkeys(("due", "later", "held", "running", "dead", "oldestSeconds"), 0)


@app.callback(invoke_without_command=True)
def queues(context: typer.Context, as_json: Json = False) -> None:
    """Per queue: due and not yet claimed, due later, held by a pause or a closed lane, running, dead.

    `bells` lie in Redis and nobody has taken them yet; - means that Redis does not answer. `oldest s` is how long the
    oldest job that is due has been so.
    """
    if context.invoked_subcommand is not None:
        return
    with answering(as_json) as out, database() as engine:
        from domain.jobs.controls import Control, read_controls
        from domain.jobs.kind import queues as known_queues
        from domain.jobs.queries import queue_depths
        from ops.cli.records import record

        with engine.begin() as tx:
            held = {control.name: control for control in read_controls(tx) if control.scope == "queue"}
            depths = {row.queue: record(row) for row in queue_depths(tx)}
        names = sorted({"default", *known_queues(), *depths, *held})
        bells = _bells(names)
        out.records(
            [
                {
                    "queue": name,
                    "bells": bells.get(name),
                    **_shown(depths.get(name, _EMPTY)),
                    **controls.control_fields(held.get(name, Control("queue", name))),
                }
                for name in names
            ],
            _COLUMNS,
            "",
        )


@app.command()
def pause(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """Nothing of it starts until it is resumed; what runs, runs on.

    Example: longshore queues pause email --reason "the mail server moves"
    """
    controls.pause("queue", name, reason, by, as_json)


@app.command()
def resume(name: Name, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """It runs again, within its limits if it has any."""
    controls.resume("queue", name, reason, by, as_json)


@app.command()
def drain(
    name: Name,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds; then exit code 7.")] = None,
    reason: Reason = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Pause it and wait until nothing of it runs or is about to. It stays paused.

    Example: longshore queues drain reports --timeout 120
    """
    with answering(as_json) as out, database() as engine:
        from ops.cli import drain as draining

        raise typer.Exit(draining.drain(out, engine, name, timeout, reason, by))


@app.command()
def limit(
    name: Name,
    *,
    max_in_flight: Most = None,
    max_in_flight_per_tenant: MostOfTenant = None,
    none: NoLimits = False,
    reason: Reason = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Bound how many of its jobs are in flight. Limits that are not named stay as they are.

    Example: longshore queues limit webhooks --max-in-flight 200
    """
    wanted: dict[str, float | None] = {
        "max_in_flight": max_in_flight,
        "max_in_flight_per_tenant": max_in_flight_per_tenant,
    }
    controls.limit("queue", name, wanted, none=none, reason=reason, by=by, as_json=as_json)


def _shown(depth: dict[str, Any]) -> Record:
    return depth if depth["due"] else {**depth, "oldestSeconds": None}


def _bells(names: list[str]) -> dict[str, int]:
    """Empty when Redis does not answer."""
    from redis.exceptions import RedisError

    from ops.cli.drain import redis_of_settings
    from workers.broker import bells_waiting

    try:
        with redis_of_settings() as redis:
            return bells_waiting(redis, names)
    except RedisError:
        return {}
