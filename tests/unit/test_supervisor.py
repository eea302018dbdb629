"""The supervisor starts again what dies, ends all it started, and is not held up by a child that will not end."""

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops import supervisor as supervisor_module
from ops.joint_log import JointLog
from ops.supervisor import Child, Supervisor

LISTENING = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); "
OBEDIENT = LISTENING + "signal.pause()"
DEAF = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)
DYING = "import sys; print('hello', flush=True); sys.exit(3)"
PARENT = (
    "import subprocess, sys; grandchild = subprocess.Popen(['sleep', '600']); print(grandchild.pid, flush=True); "
    + LISTENING
    + "signal.pause()"
)


class Running:
    """A supervisor in a thread, and what it wrote."""

    def __init__(self, folder: Path, stop_timeout_s: float, gives_up: bool = False, **programs: str) -> None:
        self.out, self.pids_file = io.StringIO(), folder / "pids.json"
        children = [Child(name, [sys.executable, "-c", code], os.environ) for name, code in programs.items()]
        log = JointLog(self.out, programs)
        self.supervisor = Supervisor(children, log, self.pids_file, stop_timeout_s, gives_up=gives_up)
        self.exit_code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.exit_code = self.supervisor.run()

    @property
    def pids(self) -> dict[str, int]:
        return json.loads(self.pids_file.read_text()) if self.pids_file.exists() else {}

    def said(self, text: str, times: int = 1) -> bool:
        return self.out.getvalue().count(text) >= times

    def stop(self) -> None:
        self.supervisor.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def running(folder: Path, stop_timeout_s: float = 10.0, gives_up: bool = False, **programs: str) -> Iterator[Running]:
    started = Running(folder, stop_timeout_s, gives_up, **programs)
    try:
        yield started
    finally:
        started.supervisor.stop()
        started.supervisor.stop()
        started.thread.join(20)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(supervisor_module, "LONGEST_WAIT_S", 0.2)


def test_a_child_that_dies_starts_again_with_back_off(tmp_path: Path) -> None:
    with running(tmp_path, dying=DYING, web=OBEDIENT) as fleet:
        eventually(lambda: fleet.said("dying | hello", times=4))
        for wait in ("0.05", "0.1", "0.2"):
            assert fleet.said(f"dying ended with exit code 3; it starts again in {wait} s")
        assert not fleet.said("web ended")


def test_a_child_that_is_killed_comes_back_under_another_pid(tmp_path: Path) -> None:
    with running(tmp_path, web=OBEDIENT) as fleet:
        eventually(lambda: fleet.said("up"))
        first = fleet.pids["web"]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: fleet.said("up", times=2))
        eventually(lambda: fleet.pids.get("web") not in {None, first})
        assert fleet.said("web was killed by SIGKILL")


def test_a_child_that_keeps_dying_at_the_start_ends_all_and_says_why(tmp_path: Path) -> None:
    with running(tmp_path, gives_up=True, dying=DYING, web=OBEDIENT) as fleet:
        fleet.thread.join(20)
        assert fleet.exit_code == 1
        assert fleet.pids == {}
    assert fleet.said("dying | hello", times=3)
    assert not fleet.said("dying | hello", times=4)
    assert fleet.said("dying died 3 times before everything was ready; its last lines:\n  hello")


def test_a_child_that_keeps_dying_later_does_not(tmp_path: Path) -> None:
    with running(tmp_path, gives_up=True, dying=DYING) as fleet:
        fleet.supervisor.trust()
        eventually(lambda: fleet.said("dying | hello", times=5))


def test_stopping_ends_all_and_exits_with_0(tmp_path: Path) -> None:
    with running(tmp_path, web=OBEDIENT, relay=OBEDIENT) as fleet:
        eventually(lambda: fleet.said("up", times=2))
        pids = fleet.pids
        fleet.stop()
    assert fleet.exit_code == 0
    assert set(pids) == {"web", "relay"}
    assert not any(alive(pid) for pid in pids.values())
    assert not fleet.pids_file.exists()


def test_a_child_that_ignores_sigterm_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    with running(tmp_path, stop_timeout_s=0.3, deaf=DEAF) as fleet:
        eventually(lambda: fleet.said("up"))
        pid = fleet.pids["deaf"]
        fleet.stop()
    assert fleet.exit_code == 1
    assert fleet.said("deaf does not end; killed")
    assert not alive(pid)


def test_a_second_stop_kills_at_once(tmp_path: Path) -> None:
    with running(tmp_path, stop_timeout_s=600.0, deaf=DEAF) as fleet:
        eventually(lambda: fleet.said("up"))
        fleet.supervisor.stop()
        fleet.stop()
    assert fleet.exit_code == 1


def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    with running(tmp_path, web=PARENT) as fleet:
        eventually(lambda: fleet.said("up"))
        grandchild = int(fleet.out.getvalue().split()[2])
        os.kill(fleet.pids["web"], signal.SIGKILL)
        eventually(lambda: not alive(grandchild))


def test_a_child_is_started_again_though_nobody_can_be_told_its_pid(tmp_path: Path) -> None:
    running = Running(tmp_path / "moved", 5.0, dying=DYING)
    try:
        eventually(lambda: running.said("hello", times=2))
        assert running.said("pids.json cannot be written (No such file or directory)")
    finally:
        running.stop()


def eventually(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Not gone, and not a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
