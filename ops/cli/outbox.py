"""`longshore outbox`: the obligations that stand, and the lanes that hold some of them."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from collections.abc import Sequence
from typing import Any

import typer

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import Output, Record, answering

app = typer.Typer(add_completion=False)

_GROUPS = {
    "kind": "kind",
    "lane": "lane",
    "rows": "rows",
    "due": "due",
    "held": "held",
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
    "held": "held",
}


@app.command()
def outbox(as_json: Json = False) -> None:
    """Obligations grouped by kind and lane, the largest group first; then the lanes, those in trouble first."""
    with answering(as_json) as out, database() as engine:
        from domain.jobs.queries import outbox_groups
        from domain.lanes.lanes import list_lanes
        from ops.cli.records import record

        with engine.begin() as tx:
            groups = [record(row) for row in outbox_groups(tx)]
            lanes = [_lane(row) for row in list_lanes(tx)]
        _print(out, groups, lanes)


def _lane(row: Any) -> dict[str, Any]:
    """What waits in a lane that lets nothing through is held: nobody is rung for it."""
    from ops.cli.records import record

    return {**record(row), "held": row.waiting if holds(row) else 0}


def holds(lane: Any) -> bool:
    """The lane lets nothing through, or one probe at a time."""
    return lane.state in {"disabled", "parked"}


def _print(out: Output, groups: Sequence[Record], lanes: Sequence[Record]) -> None:
    if out.as_json:
        return out.document({"groups": groups, "lanes": lanes})
    out.records(groups, _GROUPS, "The outbox is empty.")
    if lanes:
        out.say("")
        out.table(lanes, _LANES)
    return None
