"""A power cut takes what PostgreSQL has not synced, and nothing else: it can find a server that answers too early."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ops.chaos.faults.disks import lose_power, start_again
from ops.chaos.shim import Shim
from ops.chaos.system import System
from ops.embedded.postgresql import SETTINGS
from ops.stack import Stack

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="the shim is compiled, for Linux"
)
WRITERS = 4


class Ledger:
    """Writers that commit one number after the other, and note each that the server says is committed."""

    def __init__(self, url: str) -> None:
        self._url, self.committed, self.enough = url, set[int](), threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    @contextmanager
    def written(self) -> Iterator[None]:
        with psycopg.connect(self._url) as connection:
            connection.execute("CREATE TABLE ledger (number int)")
        for thread in self._threads:
            thread.start()
        yield
        for thread in self._threads:
            thread.join(30)

    def _write(self, number: int) -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(self._url, autocommit=True) as connection:
            while True:
                connection.execute("INSERT INTO ledger VALUES (%s)", (number,))
                self.committed.add(number)
                number += WRITERS
                if len(self.committed) > 200:
                    self.enough.set()

    def kept(self) -> set[int]:
        with psycopg.connect(self._url) as connection:
            return {number for (number,) in connection.execute("SELECT number FROM ledger")}


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_a_power_cut_spares_every_commit_of_a_server_that_syncs_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: str
) -> None:
    monkeypatch.setitem(SETTINGS, "fsync", fsync)
    shim = Shim(tmp_path / "shim")
    with Stack(tmp_path / "data", shim.environ("postgresql", has_journal=True)) as stack:
        ledger = Ledger(stack.database_url)
        with ledger.written():
            shim["postgresql"].set(journal_is_on=1)
            assert ledger.enough.wait(30)
            assert lose_power(stack.postgresql, shim["postgresql"])
        stack.postgresql.start()
        assert (ledger.committed <= ledger.kept()) is (fsync == "on")


def test_a_server_that_runs_and_never_answers_is_killed_and_started_again(tmp_path: Path) -> None:
    with Stack(tmp_path / "data") as stack:
        url = stack.database_url.replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 2})
        system: System = cast(
            System, SimpleNamespace(stack=stack, engine=engine, wait=lambda *a: System.wait(system, *a))
        )
        before = stack.postgresql.pid
        assert before
        os.kill(before, signal.SIGSTOP)
        start_again(system, answers_within_s=0.5)
        assert stack.postgresql.pid not in {None, before}
        with psycopg.connect(stack.database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
