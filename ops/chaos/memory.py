"""How much memory processes use, and how much they may (Linux)."""

import resource
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ops.chaos.system import System

MEBI = 1024 * 1024
#: More than this in a few seconds is no load, but something that was read whole.
MOST_GROWTH = 200 * MEBI


def resident(running: System, role: str) -> dict[int, int]:
    """Bytes in memory of each process of this role, by pid."""
    pids = [pid for name, pid in running.pids.items() if name.startswith(role)]
    return {pid: pages for pid in pids if (pages := _statm(pid, 1)) is not None}


def grown(before: Mapping[int, int], after: Mapping[int, int]) -> list[str]:
    """Those that were there before and are far bigger now, in words."""
    return [
        f"process {pid} grew from {before[pid] // MEBI} to {now // MEBI} MiB"
        for pid, now in after.items()
        if pid in before and now - before[pid] > MOST_GROWTH
    ]


def confine(pids: Iterable[int], more: int) -> list[int]:
    """None of these may have more address space than now and so many bytes more. Answers those that were there."""
    return [pid for pid in pids if (size := _statm(pid, 0)) is not None and _limit(pid, size + more)]


def release(pids: Iterable[int]) -> None:
    for pid in pids:
        _limit(pid, resource.RLIM_INFINITY)


def _limit(pid: int, most: int) -> bool:
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (most, hard))
        return True
    return False


def _statm(pid: int, column: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[column]) * resource.getpagesize()
    return None
