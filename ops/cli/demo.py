"""`longshore demo`: the whole flow once, against the running `longshore up`, through the doors that users have.

Orders in and every job done, one order's timeline, a webhook that dies, its dead letter replayed.
"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for what only a running demo needs

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import ExitCode, leave

Orders = Annotated[int, typer.Option(min=1, max=100_000, help="How many orders to post.")]
Data = Annotated[Path, typer.Option(envvar="LONGSHORE_DATA", help="The folder that `longshore up` runs on.")]


def demo(orders: Orders = 200, data: Data = Path(".longshore")) -> None:
    """Post orders, follow one, let a webhook die and replay it. Shows the same as curl and longshore commands."""
    from ops.dev.caller import CommandFailed, NotRunning, Refused, TimeIsUp
    from ops.dev.demonstration import Demonstration
    from ops.dev.program import typed
    from ops.settings import read_env_file

    environ = read_env_file(data / "dev.env")
    if "LONGSHORE_URL" not in environ:
        leave(ExitCode.ERROR, f"{data / 'dev.env'} does not exist: start the system with `{typed('up', data)}` first")
    try:
        Demonstration(environ, data).run(orders)
    except TimeIsUp as error:
        leave(ExitCode.TIMEOUT, str(error))
    except (NotRunning, Refused, CommandFailed) as error:
        leave(ExitCode.ERROR, str(error))
