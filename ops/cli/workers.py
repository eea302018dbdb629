"""`longshore workers`: which processes of the fleet are alive, and which fell silent."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Annotated, Any

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import answering

app = typer.Typer(add_completion=False)

All = Annotated[bool, typer.Option("--all", help="Those lost for more than a minute too, up to an hour.")]

#: How long a lost process is shown: a restart leaves its predecessor behind, which concerns nobody for long.
SHOWN_FOR_S = 60
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


@app.command()
def workers(everything: All = False, as_json: Json = False) -> None:
    """Processes of the fleet: role, what each runs, how long ago it spoke. Silent for 10 s is lost."""
    with answering(as_json) as out, database() as engine:
        from domain.fleet.workers import list_processes

        with engine.begin() as tx:
            rows = [row for row in list_processes(tx) if everything or row.silent_seconds <= SHOWN_FOR_S]
        processes = [_process(row) for row in rows]
        shown = processes if as_json else [{**one, "queueNames": ", ".join(one["queues"])} for one in processes]
        out.records(shown, _COLUMNS, "No process of the fleet runs.")


def _process(row: Any) -> dict[str, Any]:
    from domain.fleet.workers import LOST_AFTER_S
    from ops.cli.records import record

    return {**record(row), "state": "lost" if row.silent_seconds > LOST_AFTER_S else "alive"}
