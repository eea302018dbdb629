"""One peer on fresh servers, the same ones that Longshore gets: its queue filled, its workers started."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import text

from domain.database import connect
from ops.bench.client.mark import SINK
from ops.bench.fleet import BenchFailed, end
from ops.bench.peer_catalogue import PEERS, Peer
from ops.bench.sink import Sink
from ops.stack import Stack
from ops.supervisor import LEASH

CLIENT = Path(__file__).with_name("client")
_CALL_WITHIN_S = 300.0
_STOP_WITHIN_S = 15.0


class PeerProcesses:
    """A peer bound to servers and a sink."""

    def __init__(self, peer: Peer, programs: Path, stack: Stack, sink: Sink, log: Path) -> None:
        self.peer, self.sink = peer, sink
        self._programs, self._stack, self._log = programs, stack, log
        self._workers: list[subprocess.Popen[bytes]] = []
        self._environ = {
            **os.environ,
            **peer.environ,
            SINK: str(sink.path),
            "BENCH_DATABASE_URL": stack.database_url,
            "BENCH_REDIS_URL": stack.redis_url,
            "PYTHONPATH": os.pathsep.join([str(CLIENT), str(PEERS / peer.app)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def prepare(self) -> None:
        if self.peer.prepare:
            self._call(self._command(self.peer.prepare))

    def fill(self, jobs: int) -> None:
        """So many jobs wait."""
        self._produce("fill", str(jobs))

    def series(self, jobs: int, gap_s: float) -> list[tuple[float, float]]:
        """One job after the other; the moments before and after each was sent."""
        moments: list[tuple[float, float]] = self._produce("series", str(jobs), str(gap_s))
        return moments

    def start(self) -> None:
        for number in range(1, self.peer.processes + 1):
            command = [part.format(number=number) for part in self._command(self.peer.worker)]
            with self._log.open("ab") as log:
                leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
                self._workers.append(
                    subprocess.Popen(
                        [*leash, *command],
                        cwd=PEERS / self.peer.app,
                        env=self._environ,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for worker in self._workers:
            end(worker, deadline)
        self._workers.clear()

    def wait_settled(self, jobs: int, within_s: float = 15.0) -> float | None:
        """The moment when so many end states were readable; None where the system keeps none."""
        if self.peer.ended is None:
            return None
        with ExitStack() as closing:
            count = self._counter(self.peer.ended, closing)
            deadline = time.monotonic() + within_s
            while (found := count()) < jobs:
                if time.monotonic() > deadline:
                    raise BenchFailed(f"{self.peer.name} has {found} end states of {jobs} jobs")
                time.sleep(0.02)
            return time.monotonic()

    def last_words(self, lines: int = 8) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    def _counter(self, where: str, closing: ExitStack) -> Callable[[], int]:
        if self.peer.store == "valkey":
            redis = Redis.from_url(self._stack.redis_url)
            closing.callback(redis.close)
            return lambda: sum(1 for _ in redis.scan_iter(match=where, count=5_000))
        engine = connect(self._stack.database_url, process="bench", pool_size=1)
        closing.callback(engine.dispose)
        connection = closing.enter_context(engine.connect())
        return lambda: int(connection.execute(text(where)).scalar_one())

    def _produce(self, *words: str) -> Any:
        said = self._call([str(self._programs / "python"), "app.py", *words])
        return json.loads(said.splitlines()[-1])

    def _command(self, words: list[str]) -> list[str]:
        program, *arguments = words
        given = {"{database_url}": self._stack.database_url}
        return [str(self._programs / program), *(given.get(argument, argument) for argument in arguments)]

    def _call(self, command: list[str]) -> str:
        with self._log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=PEERS / self.peer.app,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=_CALL_WITHIN_S,
                check=False,
            )
        if done.returncode:
            raise BenchFailed(f"{self.peer.name}: exit code {done.returncode}\n{self.last_words()}")
        return done.stdout


@contextmanager
def peer_processes(peer: Peer, programs: Path) -> Iterator[PeerProcesses]:
    """The peer, prepared, on fresh servers; its workers do not run yet, and are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name, Sink() as sink:
        folder = Path(name)
        folder.chmod(0o711)
        with Stack(folder / "stack") as stack:
            running = PeerProcesses(peer, programs, stack, sink, folder / "peer.log")
            running.prepare()
            try:
                yield running
            finally:
                running.stop()
