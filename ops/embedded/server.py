"""A server process of the embedded stack: started, stopped, killed and started again on the same port and data.

A server that is started answers before `start` returns, and dies with its supervisor (Linux), however that dies.
"""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

TETHER = Path(__file__).with_name("tether.py")
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0  # crash recovery after a kill -9 under load is part of a start


class ServerDidNotStart(Exception):
    """The server ended, or stayed silent, before it answered; `log` is the end of what it said."""

    def __init__(self, name: str, log: str) -> None:
        super().__init__(f"{name} did not start:\n{log}")
        self.name, self.log = name, log


class Server:
    """One server process: start, stop, kill, and start again on the same port with the same data."""

    name: str
    stop_signal: signal.Signals

    def __init__(
        self,
        folder: Path,
        port: int,
        password: str,
        spawner: ThreadPoolExecutor,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder, self.port, self.password = folder, port, password
        self._spawner, self._environ = spawner, environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now; None when it is stopped or has died."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def start(self) -> None:
        """It answers when this returns; nothing happens if it runs already."""
        if self.pid is None:
            self.launch()
            self.wait_until_ready()

    def launch(self) -> None:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def wait_until_ready(self) -> None:
        try:
            wait(lambda: self.pid is None or self.is_ready(), START_TIMEOUT_S)
        except TimeoutError:
            self.kill()
        if self.pid is None:
            raise ServerDidNotStart(self.name, tail(self.log))

    def stop(self, timeout_s: float = 30.0) -> None:
        """A clean shutdown; killed if it takes longer than the timeout."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _spawn(self, command: list[str], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(self.stop_signal))]
            # The kernel takes the thread that spawned for the parent, hence one that lives as long as the stack.
            return self._spawner.submit(
                subprocess.Popen,
                [*tether, str(self.folder), *command],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **self._environ},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the servers last
            ).result()


def make_owned(path: Path) -> None:
    """A private folder of the user that the servers run as."""
    path.mkdir(mode=0o700, exist_ok=True)
    give_to_servers(path)


def give_to_servers(path: Path) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def in_package(name: str, pattern: str) -> str:
    """Found without importing the package, whose managers and clients are not needed."""
    spec = find_spec(name)
    folders = spec.submodule_search_locations if spec is not None else None
    return next(str(path) for folder in folders or [] for path in Path(folder).glob(pattern))


def wait(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
