"""`longshore`: one command line for developers, operators and the processes themselves.

Exit codes: 0 done, 1 error, 2 usage or settings, 3 not found, 4 not allowed, 5 done in part, 6 refused or not
confirmed, 7 timeout, 130 Ctrl-C. Commands import what they need when they run, so that help is instant.
"""

import sys
from typing import Annotated

import typer

from ops.cli import (
    audit,
    bench,
    chaos,
    demo,
    dlq,
    doctor,
    jobs,
    keys,
    kinds,
    outbox,
    processes,
    queues,
    retention,
    schedules,
    tenants,
    up,
    users,
    workers,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, secrets among them
    help="Takes orders in, and gets every piece of work behind them done.",
)


def _show_version(asked: bool) -> None:
    if asked:
        from ops.telemetry import VERSION  # noqa: PLC0415  # help does not need it

        typer.echo(f"longshore {VERSION}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which one it is.")]


@app.callback()
def _longshore(version: Version = False) -> None:
    """What may stand before a command."""


app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("chaos")(chaos.chaos)
app.command("workers")(workers.workers)
app.command("outbox")(outbox.outbox)
processes.add_to(app)
for _name, _group in {
    "queues": queues,
    "kinds": kinds,
    "jobs": jobs,
    "dlq": dlq,
    "schedules": schedules,
    "retention": retention,
    "tenants": tenants,
    "keys": keys,
    "users": users,
    "audit": audit,
}.items():
    app.add_typer(_group.app, name=_name)


def main() -> None:
    """The console script. Bad settings are one line per variable, never a traceback."""
    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:
        print("What was typed is not UTF-8.", file=sys.stderr)
        sys.exit(2)
    try:
        app()
    except Exception as error:
        from ops.settings import InvalidSettings  # noqa: PLC0415  # help does not need it

        if not isinstance(error, InvalidSettings):
            raise
        print("\n".join(error.problems), file=sys.stderr)
        sys.exit(2)
