"""`longshore up`: the whole system on this machine, on embedded servers, in one terminal, until Ctrl-C.

One per data folder. A second start finds the same data, keys and ports.
"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for servers it does not start

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import read_address
from ops.cli.output import ExitCode, answering, leave

if TYPE_CHECKING:
    from ops.dev.places import Places

#: A dozen processes that load at once keep each other from it; the API is what people wait for.
HEAD_START_S = 1.0
#: What a child gets beyond its own time to stop, before it is killed.
STOP_GRACE_S = 2.0

Port = Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="Of the API; 0 picks one that is free.")]
Host = Annotated[str, typer.Option(parser=read_address, metavar="ADDRESS", help="The address to listen on.")]
Data = Annotated[Path, typer.Option(envvar="LONGSHORE_DATA", help="Where everything is kept.")]
Workers = Annotated[int, typer.Option(envvar="LONGSHORE_WORKERS", min=1, max=64, help="Processes per kind of worker.")]


def up(port: Port = 8000, host: Host = "127.0.0.1", data: Data = Path(".longshore"), workers: Workers = 1) -> None:
    """Run everything here: API, fleet, PostgreSQL, Valkey, a mail inbox, a webhook receiver.

    Uses DATABASE_URL and REDIS_URL instead of the embedded servers where they are set.
    """
    from ops.dev.children import measured
    from ops.dev.only_one import AlreadyUp, only_one
    from ops.dev.places import choose_places, remember
    from ops.dev.ports import PortTaken
    from ops.embedded.server import ServerDidNotStart
    from ops.stack import StackAlreadyRunning

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there is a supervisor to stop
    started_at, data = time.monotonic(), data.absolute()
    try:
        # A folder that is there may be in use, which is the better reason; one that is not is made when ports are free.
        places = None if data.exists() else choose_places(port, host, data, measured(workers))
        with only_one(data):
            places = places or choose_places(port, host, data, measured(workers))
            remember(places, data)
            code = _up(places, data, workers, started_at)
    except (AlreadyUp, PortTaken, StackAlreadyRunning, ServerDidNotStart, OSError) as error:
        leave(ExitCode.ERROR, str(error))
    raise typer.Exit(code)


def _up(places: "Places", data: Path, workers: int, started_at: float) -> int:
    from ops.dev.children import children, outside_world
    from ops.dev.environment import environment
    from ops.dev.greeting import greet
    from ops.dev.servers import servers
    from ops.joint_log import JointLog
    from ops.settings import load_settings
    from ops.supervisor import SELF, Supervisor

    with servers(data, os.environ) as running:
        environ = environment(places, data, running.database_url, running.redis_url)
        settings = load_settings({**os.environ, **environ}, Path(os.devnull))
        _prepare(data, environ)
        fleet = [
            *children(environ, workers, places.metrics),
            *outside_world(data, places.inbox, places.smtp, places.receiver),
        ]
        log = JointLog(sys.stdout, [SELF, *(child.name for child in fleet)])
        supervisor = Supervisor(
            fleet,
            log,
            data / "pids.json",
            settings.shutdown_timeout_seconds + STOP_GRACE_S,
            HEAD_START_S,
            neighbours=lambda: running.pids,
            gives_up=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stop())
        told = (log, supervisor, environ, places, data, started_at)
        threading.Thread(target=greet, args=told, daemon=True).start()
        with running.kept_alive(lambda text: log.line(SELF, text), supervisor.write_pids):
            code = supervisor.run()
        if running.are_ours:
            log.line(SELF, "PostgreSQL and Valkey are stopping")
    log.line(SELF, f"stopped; the data stays in {data}")
    return code


def _prepare(data: Path, environ: dict[str, str]) -> None:
    """The database is migrated, its keys exist, and dev.env tells of all."""
    from ops.dev.environment import ensure_keys, write_env_file

    with answering():
        from ops.migrate import upgrade

        upgrade(environ["DATABASE_URL"])
        environ |= ensure_keys(environ["DATABASE_URL"], data / "dev.env")
    write_env_file(data / "dev.env", environ)
