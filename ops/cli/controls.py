"""What is paused and limited, of queues and of kinds alike: set, told, and refused for a name that nobody knows."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ops.cli.database import database
from ops.cli.options import operator
from ops.cli.output import Output, answering

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from domain.jobs.controls import Control

Scope = Literal["queue", "kind"]

Most = Annotated[int | None, typer.Option("--max-in-flight", min=1, help="At most so many rung or running at once.")]
MostOfTenant = Annotated[
    int | None,
    typer.Option("--max-in-flight-per-tenant", min=1, help="At most so many of each tenant."),
]
NoLimits = Annotated[bool, typer.Option("--none", help="Lift every limit.")]


def pause(scope: Scope, name: str, reason: str | None, by: str, as_json: bool) -> None:
    """Nothing of it starts until it is resumed."""
    from domain.jobs import controls

    _steer(scope, name, lambda tx: controls.pause(tx, scope, name, operator(by), reason), as_json)


def resume(scope: Scope, name: str, reason: str | None, by: str, as_json: bool) -> None:
    """It runs again, within its limits."""
    from domain.jobs import controls

    _steer(scope, name, lambda tx: controls.resume(tx, scope, name, operator(by), reason), as_json)


def limit(
    scope: Scope, name: str, wanted: dict[str, float | None], *, none: bool, reason: str | None, by: str, as_json: bool
) -> None:
    """The limits given hold, the others stay; or none holds any more."""
    given = {limit: value for limit, value in wanted.items() if value is not None}
    if bool(given) == none:
        raise typer.BadParameter("give a limit, or --none to lift them all; not both")
    if not all(map(math.isfinite, given.values())):
        raise typer.BadParameter("a limit must be a number that is finite")
    from domain.jobs import controls

    changes = dict.fromkeys(wanted) if none else given
    _steer(scope, name, lambda tx: controls.limit(tx, scope, name, changes, operator(by), reason), as_json)


def _steer(scope: Scope, name: str, act: "Callable[[Connection], object]", as_json: bool) -> None:
    """The act is committed, then what holds from now on is told."""
    with answering(as_json) as out, database() as engine:
        with engine.begin() as tx:
            refuse_unknown(tx, scope, name)
            act(tx)
            control = control_of(tx, scope, name)
        tell(out, control)


def control_of(tx: "Connection", scope: Scope, name: str) -> "Control":
    """What holds for it now; nothing, when nobody has asked for anything."""
    from domain.jobs.controls import Control, read_controls

    held = {(one.scope, one.name): one for one in read_controls(tx)}
    return held.get((scope, name), Control(scope, name))


def tell(out: Output, control: "Control") -> None:
    """What holds from now on."""
    fields = control_fields(control)
    if out.as_json:
        return out.document({"name": control.name, **fields})
    state = "is paused" if control.paused else "runs"
    return out.say(f"{control.scope.title()} {control.name} {state}, {fields['limits'] or 'without limits'}.")


def control_fields(control: "Control") -> dict[str, Any]:
    """The members that a control adds to the record of its queue or kind."""
    limits = {
        "in flight": control.max_in_flight,
        "in flight per tenant": control.max_in_flight_per_tenant,
        "per second": control.starts_per_second,
    }
    return {
        "state": "paused" if control.paused else "on",
        "maxInFlight": control.max_in_flight,
        "maxInFlightPerTenant": control.max_in_flight_per_tenant,
        "startsPerSecond": control.starts_per_second,
        "limits": ", ".join(f"{value:g} {words}" for words, value in limits.items() if value is not None) or None,
    }


def refuse_unknown(tx: "Connection", scope: Scope, name: str) -> None:
    """A name that no code, no waiting job and no control knows is a slip of the pen. Raises typer.BadParameter."""
    from domain.jobs.controls import read_controls
    from domain.jobs.kind import KINDS, queues

    known = {"default", *queues()} if scope == "queue" else set(KINDS)
    waiting = tx.exec_driver_sql(f"SELECT DISTINCT {scope} FROM outbox").scalars()  # noqa: S608  # queue or kind
    if name not in {*known, *waiting, *(one.name for one in read_controls(tx) if one.scope == scope)}:
        raise typer.BadParameter(f"NAME: {name!r} is not a {scope}; the {scope}s are {', '.join(sorted(known))}")
