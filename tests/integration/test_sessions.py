"""Sessions of the database: one that was cut off in the middle of an exchange is not used again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from domain.database import connect

ISOLATIONS = ("AUTOCOMMIT", "READ COMMITTED")


@pytest.fixture(params=[True, False], ids=["hot", "tried out first"])
def lone(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    """An engine with one connection: whatever is wrong with it meets the next statement."""
    engine = connect(database_url, process="test", pool_size=1, hot=request.param)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_session_that_was_cut_off_in_an_exchange_is_replaced_by_another(
    lone: Engine, isolation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a want of memory: its answer is still to come, and it would refuse, or give it to, whoever asks next."""
    engine = lone.execution_options(isolation_level=isolation)

    def ask(number: int) -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT CAST(:number AS int)"), {"number": number}).scalar_one())

    def cut_off(exchange: Any, *_: object, **__: object) -> Any:
        try:
            next(exchange)
        except StopIteration as done:
            return done.value  # nothing had to be asked
        monkeypatch.undo()  # this once; the question is on its way
        raise MemoryError

    assert ask(1) == 1
    monkeypatch.setattr(psycopg.waiting, "wait", cut_off)
    with pytest.raises((MemoryError, OperationalError)):  # the latter from the rollback that follows
        ask(2)
    answers = []
    for number in (3, 4, 5):
        with suppress(OperationalError):  # once, where nothing is tried out first
            answers.append(ask(number))
    assert answers in ([3, 4, 5], [4, 5])


#: Makes an engine, is left with so many blocks of 16 KiB at its first log-in, and logs in again when there is memory.
_STARVED = """
import resource, sys
from contextlib import suppress
from pathlib import Path
from sqlalchemy.exc import SQLAlchemyError
from domain.database import connect

engine, hoard, infinite = connect(sys.argv[1], process="test", pool_size=1), [], resource.RLIM_INFINITY
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 24 * 2**20, infinite))
for block in (16_384, 4_096, 2_048, 1_024, 512):
    with suppress(MemoryError):
        while True:
            hoard.append(bytearray(block))
del hoard[: int(sys.argv[2])]
with suppress(Exception):
    engine.connect().close()
hoard.clear()
resource.setrlimit(resource.RLIMIT_AS, (infinite, infinite))
engine.connect().close()
"""


@pytest.mark.parametrize("blocks", [3, 4])
def test_a_process_that_wanted_memory_at_its_first_log_in_logs_in_when_there_is_some(
    database_url: str, blocks: int
) -> None:
    """At these sizes OpenSSL was broken for good."""
    command = [sys.executable, "-c", _STARVED, database_url, str(blocks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_options_of_the_url_hold_where_we_have_none_of_our_own(database_url: str) -> None:
    engine = connect(f"{database_url}?options=-csearch_path%3Dshop%20-clock_timeout%3D7", process="test")
    with engine.connect() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("search_path", "lock_timeout")]
    engine.dispose()
    assert shown == ["shop", "5s"]
