"""Child processes under one supervisor: each is started again when it dies, and none is left behind at the end.

On Linux a child is told to stop when the supervisor itself is killed. Every child leads a process group of its own, so
what it started goes with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from ops.joint_log import JointLog

LEASH = Path(__file__).with_name("leash.py")
SELF = "supervisor"
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0
#: A child that lived so long starts again as quickly as after its first death.
PROVEN_AFTER_S = 10.0
#: Before everything was ready once, a child that dies so often has a reason that waiting does not mend.
DEATHS_TO_GIVE_UP = 3

_CLEAN_ENDS = {0, -signal.SIGTERM}  # the latter: it was told to stop before it could listen


@dataclass(frozen=True)
class Child:
    """A process to keep alive. One that `outlives` the others is told to stop only when they have ended."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    outlives: bool = False


class Supervisor:
    """`run` returns when `stop` was called and every child has ended. The first child starts ahead of the others.

    With `gives_up` it also returns, with 1, when a child keeps dying before `trust` was called.

    `<pids_file>` says who runs: {name: pid}, the neighbours included, which others look after.
    """

    def __init__(
        self,
        children: Sequence[Child],
        log: JointLog,
        pids_file: Path,
        stop_timeout_s: float,
        head_start_s: float = 0.0,
        neighbours: Callable[[], Mapping[str, int]] = dict,
        gives_up: bool = False,
    ) -> None:
        self._log, self._pids_file = log, pids_file
        self._stop_timeout_s, self._head_start_s = stop_timeout_s, head_start_s
        self._neighbours, self._pids_lock = neighbours, threading.Lock()
        self._orders: SimpleQueue[str] = SimpleQueue()
        self._trusted, self._hopeless = threading.Event(), list[str]()
        if not gives_up:
            self._trusted.set()
        self._keepers = [Keeper(child, log, self.write_pids, self._orders, self._is_hopeless) for child in children]

    def run(self) -> int:
        """Answers the exit code: 0 when every child ended cleanly, 1 when one failed to or had to be killed."""
        first, *rest = self._keepers
        first.start()
        time.sleep(self._head_start_s)
        for keeper in rest:
            keeper.start()
        self._orders.get()
        self._log.line(SELF, "stopping; Ctrl-C again kills at once")
        deadline = time.monotonic() + self._stop_timeout_s
        for outlives in (False, True):
            wave = [keeper for keeper in reversed(self._keepers) if keeper.child.outlives is outlives]
            deadline = self._end(wave, deadline)
        self._pids_file.unlink(missing_ok=True)
        for name in self._hopeless[:1]:
            self._log.line(SELF, f"{name} died {DEATHS_TO_GIVE_UP} times before everything was ready; its last lines:")
            self._log.page("\n".join(f"  {line}" for line in self._log.last_lines(name) or ["(none)"]))
        return 0 if not self._hopeless and all(keeper.ended_cleanly for keeper in self._keepers) else 1

    def stop(self) -> None:
        """Once: every child gets SIGTERM and its time. Twice: SIGKILL. May be called by a signal handler."""
        self._orders.put("stop")

    def trust(self) -> None:
        """Everything was ready once: from now on a child that dies is started again however often."""
        self._trusted.set()

    def _is_hopeless(self, name: str, deaths: int) -> bool:
        if self._trusted.is_set() or deaths < DEATHS_TO_GIVE_UP:
            return False
        self._hopeless.append(name)
        return True

    def write_pids(self) -> None:
        """The file says who runs now, and is replaced whole; or the log says why not: nobody is left alone for that."""
        try:
            with self._pids_lock:
                pids = {keeper.child.name: pid for keeper in self._keepers if (pid := keeper.pid) is not None}
                fresh = self._pids_file.with_suffix(".new")
                fresh.write_text(json.dumps({**self._neighbours(), **pids}, indent=2))
                fresh.replace(self._pids_file)
        except OSError as error:
            self._log.line(SELF, f"{self._pids_file} cannot be written ({error.strerror})")

    def _end(self, wave: Sequence["Keeper"], deadline: float) -> float:
        """All of the wave have ended. Answers the deadline of the next wave: now, if somebody is in a hurry."""
        for keeper in wave:
            keeper.terminate()
        while any(keeper.is_alive() for keeper in wave):
            try:
                if self._orders.get(timeout=max(0.02, deadline - time.monotonic())) == "stop":
                    deadline = time.monotonic()
            except Empty:
                for keeper in wave:
                    keeper.kill()
        return deadline


class Keeper(threading.Thread):
    """Keeps one child running until told to end it.

    Lives as long as the child: to the kernel, the thread that spawned a process is its parent.
    """

    def __init__(
        self,
        child: Child,
        log: JointLog,
        when_changed: Callable[[], None],
        orders: SimpleQueue[str],
        is_hopeless: Callable[[str, int], bool],
    ) -> None:
        super().__init__(name=child.name, daemon=True)
        self.child, self.ended_cleanly, self._killed = child, True, False
        self._log, self._when_changed, self._orders, self._is_hopeless = log, when_changed, orders, is_hopeless
        self._process: subprocess.Popen[bytes] | None = None
        self._starting, self._stopping = threading.Lock(), threading.Event()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def run(self) -> None:
        wait_s, deaths = FIRST_WAIT_S, 0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            ending = self._run_once()
            if self._stopping.is_set():
                break
            deaths += 1
            if self._is_hopeless(self.child.name, deaths):
                self._log.line(SELF, f"{self.child.name} {ending}; it is not started again")
                break
            if time.monotonic() - started_at >= PROVEN_AFTER_S:
                wait_s = FIRST_WAIT_S
            self._log.line(SELF, f"{self.child.name} {ending}; it starts again in {wait_s:g} s")
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        self._orders.put("ended")

    def terminate(self) -> None:
        """The child is asked to end, and not started again."""
        with self._starting:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def kill(self) -> None:
        """The child and all it started are gone."""
        if (pid := self.pid) is not None and not self._killed:
            self._log.line(SELF, f"{self.child.name} does not end; killed")
            self._killed, self.ended_cleanly = True, False
            _kill_group(pid)

    def _run_once(self) -> str:
        """Answers how the child ended."""
        try:
            process = self._spawn()
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        if process is None or process.stdout is None:
            return "was not started"
        self._when_changed()
        reader = threading.Thread(target=self._log.copy, args=(self.child.name, process.stdout), daemon=True)
        reader.start()
        code = process.wait()
        _kill_group(process.pid)  # what it left behind would hold its port and its pipe
        reader.join(timeout=1.0)
        self._when_changed()
        if self._stopping.is_set() and code not in _CLEAN_ENDS:
            self.ended_cleanly = False
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._starting:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.child.command],
                env=dict(self.child.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
            )
            return self._process


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter when all are zombies
        os.killpg(pid, signal.SIGKILL)
