"""Longshore as a user would start it, on servers of its own in a throw-away folder: nothing is left when it ends.

Stock settings throughout: what differs is the database, the ports and the folder.
"""

import base64
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from redis import Redis
from sqlalchemy import Engine, text

from domain.database import connect
from domain.tenants.plan_rules import UNLIMITED
from domain.tenants.tenants import ensure_tenant
from ops.bench.client.mark import SINK
from ops.bench.sink import Sink
from ops.migrate import upgrade
from ops.settings import surroundings
from ops.stack import Stack
from ops.supervisor import LEASH
from workers.broker import connect_redis

READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 35.0
TENANT = "bench"

_READY = text("SELECT count(*) FROM workers WHERE pid = :pid")


class BenchFailed(Exception):
    """What was to be measured did not happen; the message says what."""


class Fleet:
    """The processes under measurement, each known by a name of the caller's choice."""

    def __init__(self, stack: Stack, sink: Sink, folder: Path) -> None:
        self.stack, self.sink, self.folder = stack, sink, folder
        self.engine: Engine = connect(stack.database_url, process="bench", pool_size=4, pool_timeout_s=30.0)
        hot = connect(stack.database_url, process="bench", pool_size=2, pool_timeout_s=30.0, hot=True)
        self.commits = hot.execution_options(isolation_level="AUTOCOMMIT")
        self.redis: Redis = connect_redis(stack.redis_url, timeout_s=30.0)
        self.environ = {**surroundings(), **_settings(stack, folder), SINK: str(sink.path)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with self.engine.begin() as tx:
            self.tenant_id: UUID = ensure_tenant(tx, TENANT, UNLIMITED)

    @property
    def pids(self) -> dict[str, int]:
        """Of everything that runs, the servers included."""
        ours = {name: process.pid for name, process in self._processes.items() if process.poll() is None}
        return {name.lower(): pid for name, pid in self.stack.pids.items()} | ours

    def start(self, name: str, *words: str, module: str = "ops.bench.process", **environ: str) -> None:
        """A process of ours; whether it is ready is asked apart, so that several start at once."""
        command = [sys.executable, "-P", "-m", module, *words]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which stops the rest
            )

    def start_workers(self, queues: str, count: int = 2, **environ: str) -> None:
        for number in range(1, count + 1):
            self.start(f"worker-{number}", "worker", "--queues", queues, **environ)

    def wait_ready(self, *names: str) -> None:
        """Each of these has told the database that it lives. Raises BenchFailed."""
        for name in names:
            self.wait(lambda name=name: self._is_ready(name), f"{name} was not ready", READY_WITHIN_S)  # type: ignore[misc]

    def _is_ready(self, name: str) -> bool:
        process = self._processes[name]
        if process.poll() is not None:
            raise BenchFailed(f"{name} ended with {process.returncode}:\n{self.last_words(name)}")
        with self.engine.connect() as connection:
            return bool(connection.execute(_READY, {"pid": process.pid}).scalar_one())

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def stop(self, *names: str) -> dict[str, int]:
        """These, or all, have ended: asked to, and killed if they take too long. Answers their exit codes."""
        ending = {name: self._processes.pop(name) for name in names or tuple(self._processes)}
        for process in ending.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + STOPPED_WITHIN_S
        return {name: end(process, deadline) for name, process in ending.items()}

    def kill(self, name: str) -> None:
        """kill -9, and its end awaited."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def last_words(self, name: str, lines: int = 12) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def ask(self, statement: str, **bounds: object) -> int:
        """The one number that this query answers."""
        with self.engine.connect() as connection:
            return int(connection.execute(text(statement), bounds).scalar_one())

    def wait(self, condition: Callable[[], bool], otherwise: str, limit_s: float, every_s: float = 0.02) -> None:
        """Returns when the condition holds. Raises BenchFailed when the time is up."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise BenchFailed(f"{otherwise} within {limit_s:g} s")
            time.sleep(every_s)

    def close(self) -> None:
        self.stop()
        self.engine.dispose()
        self.commits.dispose()
        self.redis.close()


def end(process: "subprocess.Popen[bytes]", deadline: float) -> int:
    """The process that was asked to end has ended, and whatever it started with it. Answers its exit code."""
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it left behind
    return process.wait()


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Fresh servers, migrated; no process of ours runs yet."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name, Sink() as sink:
        folder = Path(name)
        folder.chmod(0o711)  # the servers may run as another user
        with Stack(folder / "stack") as stack:
            upgrade(stack.database_url)
            running = Fleet(stack, sink, folder)
            try:
                yield running
            finally:
                running.close()


def _settings(stack: Stack, folder: Path) -> Mapping[str, str]:
    return {
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "REPORTS_URL": f"file://{folder}/reports",
        "LONGSHORE_DATA": str(folder),  # no dev.env of a development system is read
        "PYTHONUNBUFFERED": "1",
    }
