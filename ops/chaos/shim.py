"""Faults inside one process, of disks and of the wall clock: `shim.c`, compiled when a run starts, and its controls.

A process carries the shim when it was started with `environ` of its name. Faults are switched by that name, live, and
outlive the process: the next one of that name finds them as they are. Where nothing can be compiled (no gcc, no Linux)
`environ` is empty, controls have no effect, and nothing is ever `met`.
"""

import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ops.embedded.server import give_to_servers

#: More than a run can meet.
EVERY_ONE = 2**40
_SOURCE = Path(__file__).with_name("shim.c")
# The layouts of shim.c.
_FIELDS = ("clock_ms", "syncs_to_fail", "syncs_wait", "wal_is_full", "data_is_full", "journal_is_on", "met")
_JOURNAL_AT, _SLOTS, _PAGE = 4_096, 4_096, 8_192
_NUMBER, _SLOT = struct.Struct("q"), struct.Struct("6q")
_SLOTS_AT = _JOURNAL_AT + 2 * _NUMBER.size
_BEFORE_AT = _SLOTS_AT + _SLOTS * _SLOT.size
_WHOLE = _BEFORE_AT + _SLOTS * _PAGE


class Write(msgspec.Struct, frozen=True):
    """A page of the WAL that was written and never synced: what stood there before."""

    ticket: int
    inode: int
    at: int
    before: bytes


class Control:
    """The faults of one process, by name as in `shim.c`; all zeros is none."""

    def __init__(self, path: Path, size: int) -> None:
        with path.open("x+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        give_to_servers(path)

    def set(self, **faults: int) -> None:
        """These faults stand, and the others as they did."""
        for name, value in faults.items():
            _NUMBER.pack_into(self._memory, _FIELDS.index(name) * _NUMBER.size, value)

    def heal(self) -> None:
        """No fault stands, and the journal is empty."""
        self.set(**dict.fromkeys(_FIELDS[:-1], 0))
        if len(self._memory) == _WHOLE:
            self._memory[_JOURNAL_AT:_BEFORE_AT] = bytes(_BEFORE_AT - _JOURNAL_AT)

    @property
    def met(self) -> int:
        """How many calls were answered wrongly so far."""
        return int(_NUMBER.unpack_from(self._memory, _FIELDS.index("met") * _NUMBER.size)[0])

    def unsynced(self) -> list[Write]:
        """What a power cut could take, the last write first. Every process that carries the shim has ended."""
        return sorted(self._unsynced(), key=lambda write: -write.ticket)

    def _unsynced(self) -> Iterator[Write]:
        for number in range(_SLOTS):
            ticket, inode, at, length, _, durable = _SLOT.unpack_from(self._memory, _SLOTS_AT + number * _SLOT.size)
            if ticket and not durable:
                before = _BEFORE_AT + number * _PAGE
                yield Write(ticket, inode, at, self._memory[before : before + length])


class Shim:
    """The library in a folder of its own, and a control for each name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o711)
        self._folder, self._controls = folder, dict[str, Control]()
        self._library = _compiled(folder / "shim.so")

    def environ(self, name: str, has_journal: bool = False) -> Mapping[str, str]:
        """What the process of this name is to be started with."""
        path = self._folder / name
        self._controls[name] = Control(path, _WHOLE if has_journal else _JOURNAL_AT)
        return {"LD_PRELOAD": str(self._library), "LONGSHORE_SHIM": str(path)} if self._library else {}

    @property
    def names(self) -> list[str]:
        """Of all that can carry it."""
        return sorted(self._controls)

    def __getitem__(self, name: str) -> Control:
        return self._controls[name]


def take_back(writes: list[Write], folder: Path) -> None:
    """The files of this folder hold what they held before these writes."""
    paths = {path.stat().st_ino: path for path in folder.iterdir() if path.is_file()}
    for write in writes:
        if (path := paths.get(write.inode)) is not None:  # else it was removed meanwhile
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), write.before, write.at)


def _compiled(library: Path) -> Path | None:
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    library.chmod(0o755)
    return library
