"""`longshore doctor`: does everything that was promised hold, on this system, now?"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from ops.cli.database import database
from ops.cli.options import Json
from ops.cli.output import ExitCode, answering, leave

_COLUMNS = {"promise": "promise", "holds": "holds", "violations": "violations"}


def doctor(as_json: Json = False) -> None:
    """Check every invariant on the live system. Exit code 0 when all hold, 1 with the violations when one does not."""
    with answering(as_json) as out, database() as engine, engine.connect() as connection:
        from domain.invariants import INVARIANTS, violations_of
        from ops.cli.records import record

        found = {invariant: violations_of(connection, invariant) for invariant in INVARIANTS}
        out.records(
            [
                {
                    "name": invariant.name,
                    "promise": invariant.promise,
                    "holds": not rows,
                    "violations": [record(row) for row in rows],
                }
                for invariant, rows in found.items()
            ],
            _COLUMNS,
            "",
        )
    if broken := [invariant.name for invariant, rows in found.items() if rows]:
        leave(ExitCode.ERROR, f"{len(broken)} of {len(found)} promises are broken: {', '.join(broken)}")
