"""`longshore queues`: how much waits, runs and lies dead, per queue."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import answering

app = typer.Typer(invoke_without_command=True, help="Queues: how much waits, runs and lies dead.")

_COLUMNS = {
    "queue": "queue",
    "due": "due",
    "rung": "rung",
    "later": "later",
    "held": "held",
    "running": "running",
    "dead": "dead",
    "oldest s": "oldestSeconds",
}


@app.callback()
def queues(ctx: typer.Context, as_json: Json = False) -> None:
    """Per queue: due now, rung and not yet claimed, due later, running, dead; and how old the oldest obligation is."""
    if ctx.invoked_subcommand is not None:
        return
    with answering(as_json) as out, database() as engine, engine.begin() as tx:
        from domain.jobs.queries import queue_depths
        from ops.cli.records import record

        out.records([record(row) for row in queue_depths(tx)], _COLUMNS, "Nothing waits, runs or lies dead.")
