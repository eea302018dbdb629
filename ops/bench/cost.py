"""What processes cost: CPU seconds and memory, from /proc. Unlike rates, CPU per job hardly feels the neighbours.

A server's children count as the server: PostgreSQL's backends, those that have ended included.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# Behind the program's name in parentheses (proc(5)): ppid is 4th, utime, stime, cutime, cstime are 14th to 17th.
_PPID, _OWN_TIMES, _CHILDREN_TIMES = 4 - 3, slice(14 - 3, 16 - 3), slice(16 - 3, 18 - 3)


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system time used so far, by name. A process that is gone has used 0."""
    return {name: sum(_seconds(one) for one in family(pid)) for name, pid in pids.items()}


class Others:
    """How much of the machine others use, from its making on: what tells a slow system from a busy machine."""

    def __init__(self) -> None:
        self._began, self._busy, self._ours = time.monotonic(), _busy_seconds(), _tree_seconds(os.getpid())

    def share(self) -> float:
        """Of all cores, 0 to 1: what ran there and was neither us nor started by us."""
        foreign = (_busy_seconds() - self._busy) - (_tree_seconds(os.getpid()) - self._ours)
        return max(0.0, foreign / (time.monotonic() - self._began) / (os.cpu_count() or 1))


def memory_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """Memory now, by name: shared pages are divided among those that share them (PSS) where /proc tells."""
    return {name: sum(_mib(one) for one in family(pid)) for name, pid in pids.items()}


def family(pid: int) -> Iterator[int]:
    """The process and its children."""
    yield pid
    for folder in _PROC.glob("[0-9]*"):
        fields = _fields(int(folder.name))
        if fields and int(fields[_PPID]) == pid:
            yield int(folder.name)


def _busy_seconds() -> float:
    """Of all cores since boot: user, nice, system, irq, softirq and stolen; not idle, not waiting for a disk."""
    with suppress(OSError):
        user, nice, system, _, _, *rest = map(int, (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9])
        return (user + nice + system + sum(rest)) / _TICKS_PER_S
    return 0.0


def _tree_seconds(root: int) -> float:
    """Of this process and all below it."""
    parents = {int(path.name): int(found[_PPID]) for path in _PROC.glob("[0-9]*") if (found := _fields(int(path.name)))}
    tree, grown = {root}, 0
    while len(tree) != grown:
        grown = len(tree)
        tree |= {pid for pid, parent in parents.items() if parent in tree}
    return sum(map(_seconds, tree))


def _seconds(pid: int) -> float:
    """Its own time and that of children that have ended. To the nanosecond where the kernel tells, else to the tick."""
    fields = _fields(pid)
    own = _nanoseconds(pid) / 1e9 or sum(map(int, fields[_OWN_TIMES])) / _TICKS_PER_S
    return own + sum(map(int, fields[_CHILDREN_TIMES])) / _TICKS_PER_S


def _nanoseconds(pid: int) -> int:
    """Of the threads that live."""
    spent = 0
    for file in (_PROC / str(pid) / "task").glob("*/schedstat"):
        with suppress(OSError):
            spent += int(file.read_text().split()[0])
    return spent


def _fields(pid: int) -> list[str]:
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return []


def _mib(pid: int) -> float:
    for file, word in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with suppress(OSError):
            for line in (_PROC / str(pid) / file).read_text().splitlines():
                if line.startswith(word):
                    return int(line.split()[1]) / 1024
    return 0.0
