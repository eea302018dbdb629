"""The commands that become a process of the system, and those that prepare one: `migrate`, `config check`.

Each reads its settings from the environment and serves until SIGTERM.
"""
# ruff: noqa: PLC0415  # lazy: each process loads its own parts only

import re
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.options import Yes

PROCESSES = "Processes"

Queues = Annotated[
    str, typer.Option("--queues", help="The queues to listen on, separated by commas.", show_default=False)
]
Port = Annotated[int, typer.Option(min=1, max=65535, show_default=False)]

Data = Annotated[Path, typer.Option(help="Where the mails are kept.", show_default=False)]

config = typer.Typer(no_args_is_help=True, help="The settings, as this command would read them.")


def add_to(app: typer.Typer) -> None:
    """Each command under the name of its process."""
    for command in (web, relay, rescuer, scheduler, worker):
        app.command(rich_help_panel=PROCESSES)(command)
    app.command()(migrate)
    app.add_typer(config, name="config")
    app.command(hidden=True)(inbox)
    app.command(hidden=True)(receiver)


def web() -> None:
    """The API."""
    from ops.server import serve
    from ops.settings import load_settings

    serve(load_settings())


def relay() -> None:
    """Rings workers for what is due. Any number may run."""
    from ops.settings import load_settings
    from workers.processes import run_relay

    run_relay(load_settings())


def rescuer() -> None:
    """Takes over the jobs of workers that fell silent. Any number may run."""
    from ops.settings import load_settings
    from workers.processes import run_rescuer

    run_rescuer(load_settings())


def scheduler() -> None:
    """Starts what is due by the clock. Any number may run."""
    from ops.settings import load_settings
    from workers.processes import run_scheduler

    run_scheduler(load_settings())


def worker(queues: Queues) -> None:
    """Runs jobs. Example: longshore worker --queues email,webhooks"""
    from ops.settings import load_settings
    from workers.worker import run_worker

    names = _known(queues)
    run_worker(load_settings(), names)


def _known(queues: str) -> list[str]:
    import domain.job_kinds  # noqa: F401  # declares the kinds, which name the queues
    from domain.jobs.kind import queues as all_queues

    names = list(dict.fromkeys(word.strip() for word in queues.split(",") if word.strip()))
    known = {"default", *all_queues()}
    if not names or set(names) - known:
        raise typer.BadParameter(f"the queues are {', '.join(sorted(known))}", param_hint="--queues")
    return names


def migrate(
    revision: Annotated[str, typer.Argument(help="The revision to go up to.")] = "head",
    down: Annotated[str | None, typer.Option("--down", help="Go back to this revision instead.")] = None,
    yes: Yes = False,
) -> None:
    """Bring the database's tables up to date. Safe to run twice at once."""
    from ops.cli.confirm import confirm
    from ops.cli.database import database
    from ops.cli.output import ExitCode, answering, leave
    from ops.settings import load_settings

    with answering() as out, database() as engine:
        from alembic.util import CommandError

        from ops.migrate import current, downgrade, upgrade

        url = load_settings().database_url
        if down is not None:
            confirm(f"Take the database from {current(engine)} back to {down}, and drop what the later ones hold?", yes)
        try:
            upgrade(url, revision) if down is None else downgrade(url, down)
        except CommandError as error:
            leave(ExitCode.NOT_FOUND, str(error))
        out.say(f"The database is at {current(engine) or 'base'}.")


@config.command()
def check() -> None:
    """Print each setting, secrets masked, and OK; or name every variable that is missing or malformed, exit code 2."""
    from ops.settings import load_settings

    settings = load_settings()
    for name in settings.__struct_fields__:
        typer.echo(f"{name.upper()}={_masked(name, getattr(settings, name))}")
    typer.echo("OK")


def _masked(name: str, value: object) -> str:
    """The value as it may be shown: no secret, and no password wherever a URL may carry one."""
    from ops.settings import SECRET

    if name in SECRET:
        return "***" if value else ""
    if isinstance(value, bool):
        return str(value).lower()
    if not name.endswith("_url"):
        return str(value)
    scheme, slashes, rest = str(value).partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    place = re.sub(r"(?<==)[^&]*", "***", place)
    return f"{scheme}{slashes}{user}{':***' if colon else ''}{at}{place}"


@config.callback()
def _config() -> None:
    """A group, though it has one command only."""


def inbox(smtp_port: Port, http_port: Port, data: Data) -> None:
    """The development mail inbox."""
    from ops.dev.inbox import run_inbox

    run_inbox(data, smtp_port, http_port)


def receiver(port: Port) -> None:
    """The sample webhook receiver."""
    from ops.dev.receiver import run_receiver

    run_receiver(port)
