"""One job, whole: its fields, its attempts, the obligation that stands, and the dead letter of its last death."""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row

from domain.jobs.controls import read_controls
from domain.jobs.groups import NEVER
from domain.jobs.queries import attempts_of, get_job, get_obligation, lease_of
from domain.jobs.retry_now import latest_dead_letter_of
from domain.lanes.lanes import list_lanes
from ops.cli.outbox import holds
from ops.cli.output import Output, cell
from ops.cli.records import TIMELINE, attempt_record, job_record, masked, record

_APART = {"waitsFor", "children", "args", "timeline", "obligation", "lastError", "progress", "result", "traceContext"}


def load(tx: Connection, job_id: UUID) -> dict[str, Any]:
    """Raises NotFound."""
    job = get_job(tx, None, job_id)
    obligation = get_obligation(tx, job_id)
    letter = latest_dead_letter_of(tx, job_id)
    return {
        **job_record(job),
        "leaseUntil": lease_of(tx, job_id),
        "children": job.children,
        "args": masked(job.args),
        "traceContext": job.trace_context,
        "obligation": record(obligation) if obligation else None,
        "waitsFor": _waits_for(tx, obligation) if obligation else None,
        "deadLetterId": letter.id if letter else None,
        "deadLetterResolution": letter.resolution if letter else None,
        "timeline": [attempt_record(row) for row in attempts_of(tx, [job_id])[job_id]],
    }


def show(out: Output, page: dict[str, Any]) -> None:
    if out.as_json:
        return out.document(page)
    out.fields({name: value for name, value in page.items() if name not in _APART})
    for name in ("args", "progress", "result", "lastError"):
        if page[name] is not None:
            out.say(f"\n{name}\n{msgspec.json.format(msgspec.json.encode(page[name]), indent=2).decode()}")
    if page["children"]:
        out.say(f"\nchildren  {', '.join(f'{count} {name}' for name, count in page['children'].items())}")
    out.say(f"\noutbox  {_obligation(page['obligation'])}")
    if page["waitsFor"]:
        out.say(f"held    {page['waitsFor']}")
    if page["timeline"]:
        out.say("\nattempts")
        out.table(page["timeline"], TIMELINE)
    return None


def _waits_for(tx: Connection, obligation: Row[Any]) -> str | None:
    """Why nobody is rung for this job, if that is so: what was asked for before what happened."""
    own = {("tenant", str(obligation.tenant_id)), ("queue", obligation.queue), ("kind", obligation.kind)}
    for control in read_controls(tx):
        if control.paused and (control.scope, control.name) in own:
            return "its tenant is suspended" if control.scope == "tenant" else f"its {control.scope} is paused"
    lane = next((row for row in list_lanes(tx) if row.name == obligation.lane), None) if obligation.lane else None
    if lane is None or not holds(lane):
        return None
    return "its lane is disabled" if lane.state == "disabled" else f"its lane is parked until {cell(lane.parked_until)}"


def _obligation(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no obligation stands"
    if row["dueAt"] == NEVER:
        return "due when its children have ended"
    rung = f"rung {row['rings']}x, rings again" if row["rings"] else "due"
    return f"{rung} at {cell(row['dueAt'])}{', in a bundle of its own' if row['alone'] else ''}"
