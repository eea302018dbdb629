"""The system under test: every process as in production, kept running by the supervisor, every link through a wire.

The harness speaks to the servers directly, the system only through the wires of its class of process: `web-postgresql`,
`worker-valkey` and so on.
"""

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from redis import Redis
from sqlalchemy import Engine, text

from domain.database import connect
from ops.chaos.flags import FOLDER, NAME
from ops.chaos.outside import Outside
from ops.chaos.shim import Shim
from ops.chaos.standby import Pair
from ops.chaos.wires import HOST, Wires
from ops.dev.ports import Ports
from ops.joint_log import JointLog
from ops.migrate import upgrade
from ops.settings import surroundings
from ops.stack import Stack
from ops.supervisor import Child, Supervisor
from workers.broker import connect_redis

#: How many processes of each class; a process is named by its class and a number: `worker-2`.
CLASSES = {"web": 2, "relay": 2, "rescuer": 2, "scheduler": 1, "worker": 3}
QUEUES = "inventory,email,webhooks,reports,default,chaos"
READY_WITHIN_S = 60.0
_FIRST_PORT = 18_300
_STOPPED_WITHIN_S = 40.0

_HEARD = text("SELECT count(DISTINCT pid) FROM workers WHERE pid = ANY(:pids)")


class ChaosFailed(Exception):
    """The run could not be carried out; it proves nothing, either way."""


class System:
    """What faults are done to. `environ` is what a command of an operator needs; some runs have a `pair`."""

    def __init__(
        self, folder: Path, stack: Stack, wires: Wires, outside: Outside, shim: Shim, mutant: str, pair: Pair | None
    ) -> None:
        self.folder, self.stack, self.wires, self.outside, self.shim = folder, stack, wires, outside, shim
        self.pair = pair
        self.engine = self._connect()
        self.redis: Redis = connect_redis(stack.redis_url, timeout_s=5.0)
        self.environ = surroundings() | {
            "DATABASE_URL": stack.database_url,
            "REDIS_URL": stack.redis_url,
            "SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "REPORTS_URL": f"file://{folder}/reports",
            FOLDER: str(folder),  # no dev.env of a development system is read
            "WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
            "WEBHOOK_ALLOW_HTTP": "true",
            "LONGSHORE_CHAOS_MUTANT": mutant,
            "PYTHONUNBUFFERED": "1",
        }
        ports = Ports(HOST)
        self.ports = {f"web-{number}": ports.first_free(_FIRST_PORT) for number in range(CLASSES["web"])}
        self._pids_file, self._log = folder / "pids.json", (folder / "system.log").open("a")
        children = [child for role, count in CLASSES.items() for child in self._children(role, count)]
        log = JointLog(self._log, [child.name for child in children])
        self._supervisor = Supervisor(children, log, self._pids_file, _STOPPED_WITHIN_S)
        self._thread = threading.Thread(target=self._supervisor.run, name="supervisor", daemon=True)

    def _children(self, role: str, count: int) -> Iterator[Child]:
        words = [role, "--queues", QUEUES] if role == "worker" else [role]
        command = [sys.executable, "-P", "-m", "ops.chaos.process", *words]
        environ = {**self.environ, **self._links(role)}
        for number in range(count):
            name = f"{role}-{number}"
            own = {"PORT": str(self.ports[name])} if role == "web" else {}
            yield Child(name, command, {**environ, **self.shim.environ(name), **own, NAME: name})

    def _links(self, role: str) -> Mapping[str, str]:
        postgresql, valkey = self.stack.postgresql.port, self.stack.valkey.port
        links = {
            "DATABASE_URL": _moved(
                self.stack.database_url, postgresql, self.wires.add(f"{role}-postgresql", postgresql)
            ),
            "REDIS_URL": _moved(self.stack.redis_url, valkey, self.wires.add(f"{role}-valkey", valkey)),
        }
        if role == "worker":
            links["SMTP_URL"] = f"smtp://{HOST}:{self.wires.add('worker-smtp', self.outside.smtp_port)}"
            self.webhook_port = self.wires.add("worker-webhook", self.outside.http_port)
        return links

    def _connect(self) -> Engine:
        return connect(self.stack.database_url, process="chaos", pool_size=8, pool_timeout_s=30.0)

    def follow(self) -> None:
        """PostgreSQL is another server now: every link leads there, and so does whatever the harness asks."""
        for name in self.wires.names:
            if name.endswith("-postgresql"):
                self.wires.aim(name, self.stack.postgresql.port)
        self.environ["DATABASE_URL"] = self.stack.database_url
        former, self.engine = self.engine, self._connect()
        former.dispose()

    def start(self) -> None:
        """Every process is up when this returns. Raises ChaosFailed."""
        self._thread.start()
        self.wait(lambda: len(self.pids) == sum(CLASSES.values()), "not every process started", READY_WITHIN_S)
        self.wait(self.is_ready, "the system was not ready", READY_WITHIN_S)

    def is_ready(self) -> bool:
        """Every API answers, and every other process has told the database that it lives."""
        pids = [pid for name, pid in self.pids.items() if not name.startswith("web")]
        with self.engine.connect() as connection:
            heard = connection.execute(_HEARD, {"pids": pids}).scalar_one()
        return heard == len(pids) and all(_is_ready(port) for port in self.ports.values())

    def stop(self) -> None:
        """Every process has ended."""
        for name in self.pids:
            self.signal(name, signal.SIGCONT)
        self._supervisor.stop()
        self._thread.join(_STOPPED_WITHIN_S + 10)
        self._log.close()
        self.engine.dispose()
        self.redis.close()

    def keep_logs(self, folder: Path) -> None:
        """Copies what every process and server has said so far, also a server that a failover has replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in (self.folder / "system.log", *(self.folder / "stack").glob("*.log")):
            shutil.copy(log, folder)

    @property
    def pids(self) -> dict[str, int]:
        """Of our processes that run now, by name."""
        with suppress(FileNotFoundError):
            found: dict[str, int] = json.loads(self._pids_file.read_text())
            return found
        return {}

    def signal(self, name: str, number: signal.Signals) -> bool:
        """False when it had died already."""
        try:
            os.kill(self.pids[name], number)
        except (KeyError, ProcessLookupError):
            return False
        return True

    def wait(self, condition: Callable[[], bool], otherwise: str, limit_s: float, every_s: float = 0.1) -> float:
        """Returns the seconds it took. Raises ChaosFailed when the time is up. An outage while asking is no answer."""
        began, last = time.monotonic(), ""
        while True:
            try:
                if condition():
                    return time.monotonic() - began
            except Exception as error:  # noqa: BLE001  # told when the time is up
                last = f": {error}"
            if time.monotonic() - began > limit_s:
                raise ChaosFailed(f"{otherwise} within {limit_s:g} s{last}")
            time.sleep(every_s)


@contextmanager
def system(seed: int, mutant: str = "", *, standby: bool = False) -> Iterator[System]:
    """Fresh servers, migrated, and everything on them. Whatever happens, nothing is left running."""
    with tempfile.TemporaryDirectory(prefix="longshore-chaos-") as name, Wires(seed) as wires, Outside() as outside:
        folder = Path(name)
        folder.chmod(0o711)  # the servers may run as another user
        shim = Shim(folder / "shim")
        with Stack(folder / "stack", shim.environ("postgresql", has_journal=True)) as stack:
            upgrade(stack.database_url)
            with Pair(stack, wires) if standby else nullcontext() as pair:
                made = System(folder, stack, wires, outside, shim, mutant, pair)
                try:
                    made.start()
                    yield made
                finally:
                    made.stop()


def _moved(url: str, port: int, to: int) -> str:
    return url.replace(f":{port}/", f":{to}/")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
