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

from ops.cli.output import ExitCode, answering, leave

if TYPE_CHECKING:
    from ops.dev.environment import Places
    from ops.joint_log import JointLog

READY_WITHIN_S = 60.0
#: A dozen processes that load at once keep each other from it; the API is what people wait for.
HEAD_START_S = 1.0
#: What a child gets beyond its own time to stop, before it is killed.
STOP_GRACE_S = 2.0
#: After an unclean end, children of the last run may still be leaving.
LEFTOVERS_LEAVE_WITHIN_S = 5.0

Port = Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="Of the API and the console; 0 picks one.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Data = Annotated[Path, typer.Option(envvar="LONGSHORE_DATA", help="Where everything is kept.")]
Workers = Annotated[int, typer.Option(envvar="LONGSHORE_WORKERS", min=1, max=64, help="Processes per kind of worker.")]


def up(port: Port = 8000, host: Host = "127.0.0.1", data: Data = Path(".longshore"), workers: Workers = 1) -> None:
    """Run everything here: API, console, fleet, PostgreSQL, Valkey, a mail inbox, a webhook receiver.

    Uses DATABASE_URL and REDIS_URL instead of the embedded servers where they are set.
    """
    from ops.dev.only_one import AlreadyUp, only_one
    from ops.dev.ports import PortTaken
    from ops.embedded.server import ServerDidNotStart
    from ops.stack import StackAlreadyRunning

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there is a supervisor to stop
    started_at, data = time.monotonic(), data.absolute()
    try:
        with only_one(data):
            code = _up(_places(port, host, workers, data), data, workers, started_at)
    except (AlreadyUp, PortTaken, StackAlreadyRunning, ServerDidNotStart, OSError) as error:
        leave(ExitCode.ERROR, str(error))
    raise typer.Exit(code)


def _places(port: int, host: str, workers: int, data: Path) -> "Places":
    import secrets

    from ops.dev.children import measured
    from ops.dev.environment import Places
    from ops.dev.ports import Ports
    from ops.stack import PORTS

    patience_s = LEFTOVERS_LEAVE_WITHIN_S if (data / "pids.json").exists() else 0.0
    outer, inner = Ports(host, patience_s), Ports("127.0.0.1")
    web = outer.exactly(port) if port else outer.first_free(secrets.choice(PORTS))
    return Places(
        host=host,
        web=web,
        inbox=inner.first_free(web + 25),
        smtp=inner.first_free(web + 26),
        receiver=inner.first_free(web + 90),
        metrics={name: inner.first_free(web + 1001 + i) for i, name in enumerate(measured(workers))},
    )


def _up(places: "Places", data: Path, workers: int, started_at: float) -> int:
    from ops.dev.children import children, outside_world
    from ops.dev.environment import environment
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
        stop_timeout_s = settings.shutdown_timeout_seconds + STOP_GRACE_S
        supervisor = Supervisor(
            fleet, log, data / "pids.json", stop_timeout_s, HEAD_START_S, neighbours=lambda: running.pids
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stop())
        threading.Thread(target=_greet, args=(log, environ, data, started_at), daemon=True).start()
        with running.kept_alive(lambda text: log.line(SELF, text), supervisor.write_pids):
            return supervisor.run()


def _prepare(data: Path, environ: dict[str, str]) -> None:
    """The database is migrated, its keys exist, and dev.env tells of all."""
    from ops.dev.environment import ensure_keys, write_env_file

    with answering():
        from ops.migrate import upgrade

        upgrade(environ["DATABASE_URL"])
        environ |= ensure_keys(environ["DATABASE_URL"], data / "dev.env")
    write_env_file(data / "dev.env", environ)


def _greet(log: "JointLog", environ: dict[str, str], data: Path, started_at: float) -> None:
    """Where everything is, once the API is ready."""
    from ops.supervisor import SELF

    deadline = time.monotonic() + READY_WITHIN_S
    while not _answers(f"{environ['LONGSHORE_URL']}/readyz"):
        if time.monotonic() > deadline:
            log.line(SELF, f"web is not ready after {READY_WITHIN_S:g} s; its lines above say why")
            return
        time.sleep(0.05)
    log.page(_banner(environ, data, time.monotonic() - started_at))


def _answers(url: str) -> bool:
    from http.client import HTTPException
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(url, timeout=2.0) as answer:  # no proxy leads to this machine
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _banner(environ: dict[str, str], data: Path, took_s: float) -> str:
    url = environ["LONGSHORE_URL"]
    lines = {
        "API": f"{url}/api/v1",
        "docs": f"{url}/api-docs",
        "metrics": f"{url}/metrics (the fleet's: METRICS_TARGETS in dev.env)",
        "mail inbox": environ["INBOX_URL"],
        "receiver": f"{environ['RECEIVER_URL']} (what came: {environ['RECEIVER_CONTROL']}/deliveries)",
        "API key": environ["LONGSHORE_API_KEY"],
        "admin key": environ["LONGSHORE_ADMIN_KEY"],
        "data": f"{data} (these settings: {data / 'dev.env'})",
    }
    rows = "\n".join(f"  {name:<11} {value}" for name, value in lines.items())
    last = "See it work: longshore demo. Ctrl-C stops everything."
    return f"\nLongshore is ready after {took_s:.1f} s.\n\n{rows}\n\n{last}\n"
