"""The embedded stack starts, keeps what was committed whatever is killed, refuses a second start, leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from ops.embedded.server import ServerDidNotStart
from ops.stack import Stack, StackAlreadyRunning

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and relies on the kernel to end servers")

SUPERVISOR = """
import pathlib, sys, time
from ops.stack import Stack

stack = Stack(pathlib.Path(sys.argv[1]))
stack.start()
print(*stack.pids.values(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """Not the session's: these tests kill it."""
    stack = Stack(tmp_path / "data")
    stack.start()
    yield stack
    stack.stop()


def test_both_servers_answer(own_stack: Stack) -> None:
    with redis.Redis.from_url(own_stack.redis_url) as client:
        assert client.ping()
    assert _query(own_stack, "SHOW fsync") == "on"
    assert _query(own_stack, "SHOW synchronous_commit") == "on"
    assert _query(own_stack, "SELECT current_database()") == "longshore"


def test_committed_data_survives_kill_9_of_postgresql(own_stack: Stack) -> None:
    url, pid = own_stack.database_url, own_stack.pids["PostgreSQL"]
    _query(own_stack, "CREATE TABLE kept AS SELECT 42 AS value", fetch=False)

    os.kill(pid, signal.SIGKILL)
    _eventually(lambda: "PostgreSQL" not in own_stack.pids)
    own_stack.postgresql.start()

    assert own_stack.database_url == url
    assert own_stack.pids["PostgreSQL"] != pid
    assert _query(own_stack, "SELECT value FROM kept") == 42


def test_servers_end_with_their_killed_supervisor(tmp_path: Path) -> None:
    with _supervisor(tmp_path) as (supervisor, pids):
        supervisor.kill()
    _eventually(lambda: not any(_is_alive(pid) for pid in pids))


def test_committed_data_survives_kill_9_of_everything(tmp_path: Path) -> None:
    with _supervisor(tmp_path) as (supervisor, pids):
        for pid in (*pids, supervisor.pid):
            os.kill(pid, signal.SIGKILL)

    with Stack(tmp_path) as stack:
        assert _query(stack, "SELECT current_database()") == "longshore"


def test_a_start_beside_another_process_says_who_runs_it(tmp_path: Path) -> None:
    with _supervisor(tmp_path) as (supervisor, _):
        with pytest.raises(StackAlreadyRunning) as refused:
            Stack(tmp_path).start()
        assert (refused.value.data_dir, refused.value.pid) == (tmp_path, supervisor.pid)
        supervisor.kill()


def test_a_session_that_outlives_its_killed_server_does_not_block_the_next(own_stack: Stack) -> None:
    busy = psycopg.connect(own_stack.database_url, autocommit=True)
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000) WHERE random() > 2")

    own_stack.postgresql.kill()
    own_stack.postgresql.start()

    assert _query(own_stack, "SELECT 1") == 1
    busy.close()


def test_stop_leaves_no_process_and_the_next_start_has_the_same_urls(own_stack: Stack) -> None:
    pids, urls = own_stack.pids, (own_stack.database_url, own_stack.redis_url)

    own_stack.stop()
    assert not any(_is_alive(pid) for pid in pids.values())

    own_stack.start()
    assert (own_stack.database_url, own_stack.redis_url) == urls


def test_a_failed_start_leaves_nothing_running(own_stack: Stack) -> None:
    own_stack.stop()
    version = own_stack.postgresql.folder / "PG_VERSION"
    version.write_text("9.6\n")

    with pytest.raises(ServerDidNotStart, match="PostgreSQL"):
        own_stack.start()

    assert own_stack.pids == {}
    version.write_text("18\n")
    own_stack.start()


def test_the_password_stands_in_no_process_list(own_stack: Stack) -> None:
    for pid in own_stack.pids.values():
        assert own_stack.postgresql.password not in Path(f"/proc/{pid}/cmdline").read_text()


def _query(stack: Stack, statement: str, *, fetch: bool = True) -> object:
    with psycopg.connect(stack.database_url) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if fetch else None
        return row[0] if row else None


@contextmanager
def _supervisor(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another process that runs a stack; the test ends it."""
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, data_dir], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [int(word) for word in process.stdout.readline().split()]
        except BaseException:
            process.kill()
            raise


def _is_alive(pid: int) -> bool:
    """Zombies are dead: the first process of a container may never collect them."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
