"""`longshore workers`: which processes of the fleet are alive, and which fell silent."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Any

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import answering

app = typer.Typer(invoke_without_command=True, help="Processes of the fleet: alive or lost.")

_COLUMNS = {
    "id": "id",
    "role": "role",
    "state": "state",
    "host": "host",
    "pid": "pid",
    "queues": "queueNames",
    "running": "running",
    "silent s": "silentSeconds",
    "started": "startedAt",
}


@app.callback()
def workers(ctx: typer.Context, as_json: Json = False) -> None:
    """Every process with its role, what it runs, and how long ago it spoke; silent for 10 s is lost."""
    if ctx.invoked_subcommand is not None:
        return
    with answering(as_json) as out, database() as engine, engine.begin() as tx:
        from domain.fleet.workers import list_processes

        processes = [_process(row) for row in list_processes(tx)]
        shown = processes if as_json else [{**one, "queueNames": ", ".join(one["queues"])} for one in processes]
        out.records(shown, _COLUMNS, "No process of the fleet runs.")


def _process(row: Any) -> dict[str, Any]:
    from domain.fleet.workers import LOST_AFTER_S
    from ops.cli.records import record

    return {**record(row), "state": "lost" if row.silent_seconds > LOST_AFTER_S else "alive"}
