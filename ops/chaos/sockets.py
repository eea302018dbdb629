"""Whose connection is it: the process at the other end of a wire, by the port it calls from (Linux)."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LOCAL, _INODE = 1, 9


def holder_of(port: int, pids: Mapping[str, int]) -> str | None:
    """The name of the process that calls from this loopback port; None when it is none of these, or gone."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    return next((name for name, pid in pids.items() if sockets & _files(pid)), None)


def _inodes(port: int) -> list[str]:
    rows = [line.split() for line in (_PROC / "net/tcp").read_text().splitlines()[1:]]
    return [row[_INODE] for row in rows if int(row[_LOCAL].partition(":")[2], 16) == port and row[_INODE] != "0"]


def _files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for file in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                found.add(str(file.readlink()))
    return found
