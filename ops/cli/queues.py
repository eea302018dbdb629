"""`longshore queues`: how much waits, runs and lies dead, per queue."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Any

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import Record, answering

app = typer.Typer(add_completion=False)

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
_EMPTY: dict[str, Any] = dict.fromkeys(_COLUMNS.values(), 0)


@app.command()
def queues(as_json: Json = False) -> None:
    """Per queue: due now, rung and not yet claimed, due later, held by a parked or disabled lane, running, dead.

    `oldest s` is how long the oldest one that is due has waited.
    """
    with answering(as_json) as out, database() as engine, engine.begin() as tx:
        from domain.jobs.kind import queues as known_queues
        from domain.jobs.queries import queue_depths
        from ops.cli.records import record

        depths = {row.queue: record(row) for row in queue_depths(tx)}
        empty = {name: _EMPTY | {"queue": name} for name in ("default", *known_queues())}
        out.records([_shown(depth) for _, depth in sorted((empty | depths).items())], _COLUMNS, "")


def _shown(depth: dict[str, Any]) -> Record:
    return depth if depth["due"] else {**depth, "oldestSeconds": None}
