"""Orders for processes that are yet to start: a file in the run's folder, by the name of the process.

`dies`: it ends at each start, and leaves a mark for each death. `older`: it is of the code before the newest kind.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Flag = Literal["dies", "older"]

#: What a process knows itself and its run by.
NAME, FOLDER = "LONGSHORE_CHAOS_NAME", "LONGSHORE_DATA"


@contextmanager
def flagged(folder: Path, name: str, flag: Flag) -> Iterator[None]:
    """While this stands, what starts under this name does so."""
    order = folder / f"{name}.{flag}"
    order.touch()
    try:
        yield
    finally:
        order.unlink(missing_ok=True)


def is_flagged(flag: Flag) -> bool:
    """Whether this process shall."""
    return (Path(os.environ[FOLDER]) / f"{os.environ[NAME]}.{flag}").exists()


def note_death() -> None:
    with _deaths(Path(os.environ[FOLDER]), os.environ[NAME]).open("a") as marks:
        marks.write("x")


def deaths_of(folder: Path, name: str) -> int:
    """How often this one has died at its start."""
    marks = _deaths(folder, name)
    return marks.stat().st_size if marks.exists() else 0


def _deaths(folder: Path, name: str) -> Path:
    return folder / f"{name}.deaths"
