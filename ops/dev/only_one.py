"""One `longshore up` per data folder, proved by a kernel lock: kill -9 releases it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyUp(Exception):
    """A live process runs `longshore up` on this data."""

    def __init__(self, data: Path, pid: int) -> None:
        super().__init__(f"`longshore up` already runs on {data} (process {pid}); stop it, or give another --data")
        self.data, self.pid = data, pid


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """The data folder exists and is ours inside. Raises AlreadyUp."""
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    (data / ".gitignore").write_text("*\n")  # keys and data, wherever the folder is
    file = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUp(data, int(os.read(file, 20) or 0)) from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)
