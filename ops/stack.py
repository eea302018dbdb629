"""The embedded stack: PostgreSQL and Valkey in one data folder, for `longshore up`, tests and benchmarks.

One live stack per data folder, proved by a lock that dies with its holder. Data, ports and password outlive it, so the
next start gives the same URLs (a port taken meanwhile is replaced).
"""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypedDict

from ops.embedded.postgresql import Postgresql
from ops.embedded.server import HOST, Server
from ops.embedded.valkey import Valkey

# Below the kernel's range for outgoing connections: there, a client that retries while its server is down can be given
# the server's own port, connect to itself, and keep the server from coming back.
PORTS = range(20_000, 30_000)


class StackAlreadyRunning(Exception):
    """A live process holds the stack of this data folder."""

    def __init__(self, data_dir: Path, pid: int) -> None:
        super().__init__(f"process {pid} already runs the stack in {data_dir}")
        self.data_dir, self.pid = data_dir, pid


class Identity(TypedDict):
    """What a data folder's servers are known by."""

    password: str
    ports: dict[str, int]


class Stack:
    """Both servers of one data folder; start it, or use it as a context.

    PostgreSQL gets `postgresql_environ` besides the environment of this process.
    """

    postgresql: Postgresql
    valkey: Valkey

    def __init__(self, data_dir: Path, postgresql_environ: Mapping[str, str] = MappingProxyType({})) -> None:
        self.data_dir, self._postgresql_environ = data_dir.absolute(), postgresql_environ
        self._lock: int | None = None

    @property
    def database_url(self) -> str:
        return self.postgresql.url

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.postgresql, self.valkey

    @property
    def pids(self) -> dict[str, int]:
        """Of the servers that run now, by name: what a test or the chaos harness kills."""
        return {server.name: server.pid for server in self.servers if server.pid is not None}

    def start(self) -> None:
        """Both servers answer when this returns. Raises StackAlreadyRunning or ServerDidNotStart; then nothing runs."""
        self.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._lock = _lock(self.data_dir)
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stack")
        identity = _identity(self.data_dir)
        password, ports = identity["password"], identity["ports"]
        self.postgresql = Postgresql(
            self.data_dir / "postgresql", ports["postgresql"], password, self._spawner, self._postgresql_environ
        )
        self.valkey = Valkey(self.data_dir / "valkey", ports["valkey"], password, self._spawner)
        with self._stopping_on_failure():
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait_until_ready()

    def stop(self) -> None:
        """No process is left and the data folder is free. Harmless when nothing runs."""
        if self._lock is None:
            return
        for server in reversed(self.servers):
            server.stop()
        self._spawner.shutdown()
        os.close(self._lock)
        self._lock = None

    @contextmanager
    def _stopping_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _lock(data_dir: Path) -> int:
    """A kernel lock rather than a pid file: kill -9 releases it."""
    file = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 20)
        os.close(file)
        raise StackAlreadyRunning(data_dir, int(holder or 0)) from None
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def _identity(data_dir: Path) -> Identity:
    path = data_dir / "stack.json"
    known: Identity = (
        json.loads(path.read_text()) if path.exists() else {"password": secrets.token_urlsafe(32), "ports": {}}
    )
    for name in ("postgresql", "valkey"):
        if not _is_free(known["ports"].get(name)):
            known["ports"][name] = next(port for port in _candidates() if port not in known["ports"].values())
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(known))
    fresh.replace(path)
    return known


def _candidates() -> Iterator[int]:
    yield from (port for port in iter(lambda: secrets.choice(PORTS), None) if _is_free(port))


def _is_free(port: int | None) -> bool:
    if port is None:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
