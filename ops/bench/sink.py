"""The file that every measured job appends to, and what can be read from it: starts, losses, doubles, rates."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ops.bench.client.mark import RECORD

MEMORY = Path("/dev/shm")  # noqa: S108  # not for secrets: a file system that no disk slows down
_LOOK_EVERY_S = 0.002

Mark = tuple[float, float]


class Drained(msgspec.Struct, frozen=True):
    """What became of the jobs 0 to `jobs` - 1. Times are CLOCK_MONOTONIC seconds."""

    jobs: int
    ran: int
    lost: int
    twice: int
    first: float
    last: float

    @property
    def jobs_per_s(self) -> float:
        return (self.ran - 1) / (self.last - self.first) if self.ran > 1 else 0.0


class Sink:
    """One file of marks, gone when its context ends. In memory where the machine allows it."""

    def __init__(self) -> None:
        is_in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
        file, name = tempfile.mkstemp(prefix="longshore-bench-", dir=MEMORY if is_in_memory else None)
        os.close(file)
        self.path = Path(name)

    def count(self) -> int:
        return self.path.stat().st_size // RECORD.size

    def marks(self) -> list[Mark]:
        """(number, moment) in the order of arrival."""
        content = self.path.read_bytes()
        return list(RECORD.iter_unpack(content[: len(content) // RECORD.size * RECORD.size]))

    def clear(self) -> None:
        os.truncate(self.path, 0)

    def wait_for(self, count: int, limit_s: float, silence_s: float = 15.0) -> int:
        """The marks there are: `count`, or fewer when the limit is up or nothing came for so long."""
        started = moved = time.monotonic()
        seen = 0
        while True:
            now, found = time.monotonic(), self.count()
            if found != seen:
                seen, moved = found, now
            if seen >= count or now - started > limit_s or now - moved > silence_s:
                return seen
            time.sleep(_LOOK_EVERY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)


def drained(marks: Sequence[Mark], jobs: int) -> Drained:
    """How the jobs numbered 0 to `jobs` - 1 ran. Raises ValueError when none did."""
    if not marks:
        raise ValueError("no job ran")
    distinct = {number for number, _ in marks if 0 <= number < jobs}
    moments = [moment for _, moment in marks]
    return Drained(jobs, len(distinct), jobs - len(distinct), len(marks) - len(distinct), min(moments), max(moments))
