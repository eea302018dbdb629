"""The command line's connection to PostgreSQL: opened for one command and closed with it. Its silence is one line."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ops.cli.output import ExitCode

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.exc import DBAPIError

_NOT_MIGRATED = {"42P01", "42703"}  # undefined table, undefined column
_NOT_ALLOWED = {"28000", "28P01", "42501"}
_NOT_STORED = "22"  # data exception: U+0000 in JSON, a number that is too large
_INTERRUPTED = ("55P03", "40P01", "40001", "53", "57")  # lock timeout, deadlock, serialization; resources, an operator


@contextmanager
def database() -> Iterator["Engine"]:
    """An engine on the database of the settings. Every kind of job is known inside."""
    import domain.job_kinds  # noqa: F401  # declares them: a replay reads its allowance, an edit its payload
    from domain.database import connect
    from ops.settings import load_settings

    engine = connect(load_settings().database_url, process="cli")
    try:
        yield engine
    finally:
        engine.dispose()


def silence_of(error: Exception) -> tuple[ExitCode, str] | None:
    """What to say when the database was the trouble; None when it was not."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if isinstance(error, PoolTimeout):
        return ExitCode.ERROR, f"The database does not answer.{_hint()}"
    return _judged(error) if isinstance(error, DBAPIError) else None


def _judged(error: "DBAPIError") -> tuple[ExitCode, str] | None:
    from domain.outages import is_outage

    first_line = str(error.orig).strip().split("\n")[0]
    state = getattr(error.orig, "sqlstate", None)
    if state in _NOT_ALLOWED or "authentication failed" in first_line:
        return ExitCode.AUTH, f"The database refuses us: {first_line}"
    if state is None:
        return ExitCode.ERROR, f"The database does not answer: {first_line}{_hint()}"
    if state in _NOT_MIGRATED:
        return ExitCode.ERROR, "The database does not have our tables: it has to be migrated first."
    if state.startswith(_NOT_STORED):
        return ExitCode.USAGE, f"The database cannot hold this: {first_line}"
    if state.startswith(_INTERRUPTED) or is_outage(error):
        return ExitCode.ERROR, f"The database was interrupted, try again: {first_line}"
    return None


def _hint() -> str:
    """Where `longshore up` told us of the database, it is the one to ask for."""
    from ops.dev.program import typed
    from ops.settings import DATA, DEV_ENV, read_env_file

    if os.environ.get("DATABASE_URL") or not read_env_file(DEV_ENV).get("DATABASE_URL"):
        return ""
    return f" ({DEV_ENV} says that it is there: is `{typed('up', DATA)}` running?)"
