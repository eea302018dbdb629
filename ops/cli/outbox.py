"""`longshore outbox`: the obligations that stand, and the lanes that hold some of them."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Any

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import Output, Record, answering

app = typer.Typer(invoke_without_command=True, help="The outbox and its lanes: what waits, and for what.")

_GROUPS = {
    "kind": "kind",
    "lane": "lane",
    "rows": "rows",
    "due": "due",
    "most rings": "mostRings",
    "oldest s": "oldestSeconds",
}
_LANES = {
    "lane": "name",
    "queue": "queue",
    "state": "state",
    "parked until": "parkedUntil",
    "failures": "failures",
    "latency ms": "latencyMs",
    "in flight": "inFlight",
    "room": "room",
    "waiting": "waiting",
}


@app.callback()
def outbox(ctx: typer.Context, as_json: Json = False) -> None:
    """Obligations grouped by kind and lane, the largest group first; then the lanes, those in trouble first."""
    if ctx.invoked_subcommand is not None:
        return
    with answering(as_json) as out, database() as engine, engine.begin() as tx:
        from domain.jobs.queries import outbox_groups
        from domain.lanes.lanes import list_lanes
        from ops.cli.records import record

        _print(out, [_group(row) for row in outbox_groups(tx)], [record(row) for row in list_lanes(tx)])


def _group(row: Any) -> Record:
    from ops.cli.records import record

    return {**record(row), "lane": row.lane or None, "oldestSeconds": max(0.0, row.oldest_seconds)}


def _print(out: Output, groups: list[Record], lanes: list[Record]) -> None:
    if out.as_json:
        return out.document({"groups": groups, "lanes": lanes})
    out.records(groups, _GROUPS, "The outbox is empty.")
    if lanes:
        out.say("")
        out.table(lanes, _LANES)
    return None
