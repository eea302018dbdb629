"""How a person types our commands here: what `longshore up`, `demo` and the hints print can be pasted as it stands."""

import os
import shutil
import sys
from pathlib import Path

DATA = Path(".longshore")
#: The targets of the Makefile that run one of our commands.
_TARGETS = {"up", "demo"}


def program() -> str:
    """`longshore` where the shell finds it; the path it was called by, or that of the environment, where not."""
    called = Path(sys.argv[0])
    command = called if called.name == "longshore" else Path(sys.executable).with_name("longshore")
    found = shutil.which("longshore")
    if not command.exists() or (found and Path(found).resolve() == command.resolve()):
        return "longshore"
    command = command.absolute()
    here = Path.cwd()
    return str(command.relative_to(here) if command.is_relative_to(here) else command)


def typed(command: str, data: Path = DATA) -> str:
    """`up` or `demo` as it is typed here for this data folder: by make where make called us."""
    is_usual = data.absolute() == DATA.absolute()
    if is_usual and command in _TARGETS and "MAKELEVEL" in os.environ:
        return f"make {command}"
    return f"{program()} {command}" + ("" if is_usual else f" --data {data}")
