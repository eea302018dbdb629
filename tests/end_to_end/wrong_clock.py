"""A process whose wall clock is off: `python -m tests.end_to_end.wrong_clock SECONDS MODULE ...` runs the module so.

It is off for all that Python code asks of the time of day, and for new ids. The monotonic clock is as it was.
"""

import ctypes
import gc
import runpy
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

import uuid_utils.compat

NAME = "tests.end_to_end.wrong_clock"


def python(*command: str, clock_off_s: int = 0) -> list[str]:
    """The command line of a process that runs this module with these arguments, by the right clock or a wrong one."""
    return [sys.executable, "-m", *([NAME, str(clock_off_s)] if clock_off_s else []), *command]


def set_clock_off(seconds: int) -> None:
    """Before anybody has asked for the time: what was imported by name stays right."""
    right_ns, right_now, right_id = time.time_ns, datetime.now, uuid_utils.compat.uuid7

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        return right_now(tz) + timedelta(seconds=seconds)

    def wrong_id(*, nanoseconds: int | None = None) -> UUID:
        return right_id(nanoseconds=nanoseconds or time.time_ns())

    time.time_ns = lambda: right_ns() + seconds * 10**9
    time.time = lambda: time.time_ns() / 10**9
    _patch(datetime, "now", classmethod(now))
    uuid_utils.compat.uuid7 = wrong_id


def _patch(cls: type, name: str, attribute: object) -> None:
    """Of a class that is written in C: its dictionary is hidden behind a read-only view, but not from the collector."""
    (attributes,) = gc.get_referents(cls.__dict__)
    attributes[name] = attribute
    modified: Any = ctypes.pythonapi.PyType_Modified
    modified(ctypes.py_object(cls))


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    set_clock_off(int(sys.argv.pop(0)))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
