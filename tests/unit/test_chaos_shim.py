"""The shim breaks disks and the wall clock of the processes that carry it, while they run, and no others'."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.chaos.shim import Control, Shim, take_back

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="the shim is compiled, for Linux"
)
SEGMENT = "000000010000000000000001"
PAGE = 8_192
#: Runs each line it is told, and answers what it is worth, or the errno.
CHILD = """
import datetime, os, time
while True:
    try:
        print(eval(input()), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Child:
    """A Python process under the shim, which does what it is told."""

    def __init__(self, process: "subprocess.Popen[str]", environ: dict[str, str], control: Control) -> None:
        self._process, self.environ, self.control = process, environ, control

    def says(self, expression: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def writes(self, file: str, text: str, page: int = 0) -> None:
        assert self.says(f"os.pwrite({file}, {text!r}.encode() * {PAGE // len(text)}, {page * PAGE})") == str(PAGE)


@contextmanager
def child_of(shim: Shim, name: str) -> Iterator[Child]:
    environ = {**os.environ, **shim.environ(name, has_journal=True)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Child(process, environ, shim[name])
        process.kill()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim(tmp_path_factory.mktemp("chaos") / "shim")


@pytest.fixture
def child(shim: Shim) -> Iterator[Child]:
    with child_of(shim, f"child-{len(shim.names)}") as child:
        yield child


def file_of(folder: Path, path: str, pages: int = 4) -> str:
    """A file in a folder as PostgreSQL names it, as an expression that opens it."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b"old." * (pages * PAGE // 4))
    return f"os.open({str(folder / path)!r}, os.O_RDWR)"


def opened(child: Child, folder: Path, path: str) -> str:
    return child.says(file_of(folder, path))


@pytest.mark.parametrize("clock", ["time.time()", "time.time_ns() / 1e9", "datetime.datetime.now().timestamp()"])
@pytest.mark.parametrize("hours", [1, -2])
def test_the_wall_clock_jumps_and_comes_back_and_no_other_clock_moves(child: Child, clock: str, hours: int) -> None:
    before = float(child.says("time.monotonic()"))
    assert abs(float(child.says(clock)) - time.time()) < 60
    assert child.control.met == 0
    child.control.set(clock_ms=hours * 3_600_000)
    assert abs(float(child.says(clock)) - time.time() - hours * 3_600) < 60
    assert 0 <= float(child.says("time.monotonic()")) - before < 60
    assert child.control.met > 0
    child.control.heal()
    assert abs(float(child.says(clock)) - time.time()) < 60


def test_a_shifted_moment_has_no_more_than_a_second_of_nanoseconds(child: Child) -> None:
    for ms in (999, -999, -1, 1):
        child.control.set(clock_ms=ms)
        ahead = float(child.says("time.time() - (time.clock_gettime_ns(11) / 1e9 - 37)"))  # TAI does not jump
        offset = time.time() - (time.clock_gettime_ns(11) / 1e9 - 37)
        assert abs(ahead - offset - ms / 1000) < 0.1


def test_each_name_has_a_clock_of_its_own(shim: Shim, child: Child) -> None:
    with child_of(shim, "other") as other:
        other.control.set(clock_ms=3_600_000)
        assert abs(float(child.says("time.time()")) - time.time()) < 60


def test_a_sync_of_the_wal_fails_as_often_as_it_was_told_to(child: Child, tmp_path: Path) -> None:
    wal, data = opened(child, tmp_path, f"pg_wal/{SEGMENT}"), opened(child, tmp_path, "base/1/2")
    child.control.set(syncs_to_fail=2)
    assert child.says(f"os.fsync({data})") == "None"
    assert [child.says(f"os.{sync}({wal})") for sync in ("fsync", "fdatasync", "fdatasync")] == ["5", "5", "None"]
    assert child.control.met == 2


def test_a_full_disk_takes_no_wal(child: Child, tmp_path: Path) -> None:
    wal, data = opened(child, tmp_path, f"pg_wal/{SEGMENT}"), opened(child, tmp_path, "base/1/2")
    child.control.set(wal_is_full=1)
    assert child.says(f"os.pwrite({wal}, b'new', 0)") == "28"
    assert child.says(f"os.pwrite({data}, b'new', {100 * PAGE})") == "3"
    child.control.heal()
    assert child.says(f"os.pwrite({wal}, b'new', 0)") == "3"


def test_a_full_disk_takes_what_makes_no_table_longer(child: Child, tmp_path: Path) -> None:
    data = opened(child, tmp_path, "base/1/2")
    child.control.set(data_is_full=1)
    ends = (0, 4 * PAGE - 3, 4 * PAGE - 2)
    assert [child.says(f"os.pwrite({data}, b'new', {at})") for at in ends] == ["3", "3", "28"]
    assert child.says(f"os.posix_fallocate({data}, 0, {5 * PAGE})") == "28"
    assert child.says(f"os.posix_fallocate({data}, 0, {4 * PAGE})") == "None"


class TestPowerCut:
    """What was written and not synced is as if it had never been."""

    def cut(self, child: Child, folder: Path) -> str:
        """The first letters of the pages afterwards."""
        take_back(child.control.unsynced(), folder / "pg_wal")
        child.control.heal()
        content = (folder / "pg_wal" / SEGMENT).read_bytes()
        return "".join(chr(content[at]) for at in range(0, len(content), PAGE))

    def test_takes_what_was_written_since_the_last_sync(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        child.writes(wal, "A", page=0)
        child.writes(wal, "B", page=1)
        assert child.says(f"os.fdatasync({wal})") == "None"
        child.writes(wal, "C", page=1)
        child.writes(wal, "D", page=2)
        child.writes(wal, "E", page=1)
        assert self.cut(child, tmp_path) == "ABoo"
        assert child.control.unsynced() == []

    def test_takes_all_of_a_long_write(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        assert child.says(f"os.pwrite({wal}, b'N' * {3 * PAGE + 5}, 0)") == str(3 * PAGE + 5)
        assert self.cut(child, tmp_path) == "oooo"
        assert (tmp_path / "pg_wal" / SEGMENT).read_bytes() == b"old." * PAGE

    def test_spares_what_another_process_of_the_same_name_synced(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        child.writes(wal, "A", page=0)
        sync = f"import os; os.fdatasync(os.open({str(tmp_path / 'pg_wal' / SEGMENT)!r}, os.O_RDWR))"
        subprocess.run([sys.executable, "-c", sync], env=child.environ, check=True)
        child.writes(wal, "B", page=1)
        assert self.cut(child, tmp_path) == "Aooo"

    def test_knows_a_segment_under_its_next_name(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        last = SEGMENT[:-1] + "0"
        wal = opened(child, tmp_path, f"pg_wal/{last}")
        child.writes(wal, "A", page=0)
        (tmp_path / "pg_wal" / last).rename(tmp_path / "pg_wal" / SEGMENT)
        assert self.cut(child, tmp_path) == "oooo"

    def test_a_sync_that_fails_saves_nothing(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1, syncs_to_fail=1)
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        child.writes(wal, "A", page=0)
        assert child.says(f"os.fdatasync({wal})") == "5"
        assert self.cut(child, tmp_path) == "oooo"

    def test_a_sync_of_another_file_saves_nothing(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        other = opened(child, tmp_path, "pg_wal/" + SEGMENT[:-1] + "2")
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        child.writes(wal, "A", page=0)
        assert child.says(f"os.fdatasync({other})") == "None"
        assert self.cut(child, tmp_path) == "oooo"

    def test_what_no_slot_is_left_for_stays(self, child: Child, tmp_path: Path) -> None:
        child.control.set(journal_is_on=1)
        wal = opened(child, tmp_path, f"pg_wal/{SEGMENT}")
        child.writes(wal, "A", page=0)
        assert child.says(f"[os.pwrite({wal}, b'B', {PAGE}) for _ in range(4096)] and 'done'") == "done"
        assert self.cut(child, tmp_path) == "Aooo"


def test_where_nothing_can_be_compiled_nothing_is_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    shim = Shim(tmp_path / "shim")
    assert shim.environ("worker-0") == {}
    shim["worker-0"].set(clock_ms=1)
    shim["worker-0"].heal()
    assert shim["worker-0"].met == 0
