"""`longshore doctor`: does everything that was promised hold, on this system, now?"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Any

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import ExitCode, Output, answering, leave

_COLUMNS = {"promise": "promise", "holds": "holds"}
#: Of the rows that break a promise; --json has all that were found.
SHOWN = 3


def doctor(as_json: Json = False) -> None:
    """Check every invariant on the live system. Exit code 0 when all hold, 1 with the violations when one does not."""
    with answering(as_json) as out, database() as engine:
        from domain.invariants import INVARIANTS, violations_of
        from ops.cli.records import record

        found: list[dict[str, Any]] = []
        with engine.connect() as connection:
            for invariant in INVARIANTS:
                rows = [record(row) for row in violations_of(connection, invariant)]
                named = {"name": invariant.name, "promise": invariant.promise}
                found.append({**named, "holds": not rows, "violations": rows})
        _print(out, found)
    if broken := [str(one["name"]) for one in found if not one["holds"]]:
        leave(ExitCode.ERROR, f"{len(broken)} of {len(found)} promises are broken: {', '.join(broken)}")
    if not as_json:
        out.say(f"All {len(found)} promises hold.")


def _print(out: Output, promises: list[dict[str, Any]]) -> None:
    if out.as_json:
        return out.document(promises)
    out.table([{**one, "holds": "ok" if one["holds"] else "BROKEN"} for one in promises], _COLUMNS)
    for one in promises:
        if rows := one["violations"]:
            out.say(f"\n{one['promise']} It is broken by{', among others' if len(rows) > SHOWN else ''}:")
            out.table(rows[:SHOWN], {name: name for name in rows[0]})
    return None
