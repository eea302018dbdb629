"""Faults of PostgreSQL's disk: syncs that fail, a disk that is full, and the power that goes.

What PostgreSQL says to them is its own crash; it is started again until it answers, as an init system would.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import text

from ops.chaos.faults import Scene, fault
from ops.chaos.shim import EVERY_ONE, Control, take_back
from ops.chaos.system import ChaosFailed, System
from ops.embedded.postgresql import Postgresql, processes_of

_UP_WITHIN_S = 120.0
#: A server that runs and has not answered for so long is killed, as the liveness probe of an orchestrator would do.
_ANSWERS_WITHIN_S = 30.0
#: So long do commits gather behind a sync that does not come to an end before the power goes.
_LAST_SYNC_S = 0.05


@fault("F39", "fsync-fails", "postgresql", (0.5, 3.0))
def fail_syncs(scene: Scene) -> Iterator[None]:
    """A sync of the WAL says EIO, once or for seconds: PostgreSQL gives up, and recovers."""
    yield from _broken(scene, syncs_to_fail=scene.dice.choice([1, EVERY_ONE]))


@fault("F40", "wal-disk-full", "postgresql", (0.5, 4.0))
def fill_the_disk_of_the_wal(scene: Scene) -> Iterator[None]:
    """No room for the WAL: PostgreSQL gives up, and comes back when there is some."""
    yield from _broken(scene, wal_is_full=1)


@fault("F41", "data-disk-full", "postgresql", (2.0, 6.0))
def fill_the_disk_of_the_tables(scene: Scene) -> Iterator[None]:
    """No room for a table or an index to grow: what would need it fails, and nothing else does."""
    yield from _broken(scene, data_is_full=1)


@fault("F42", "power-cut", "postgresql", (2.0, 5.0))
def cut_the_power(scene: Scene) -> Iterator[None]:
    """kill -9 of all of PostgreSQL while a sync is under way; what was written and not synced of its WAL is gone."""
    control = scene.system.shim["postgresql"]
    control.set(journal_is_on=1)
    try:
        yield
    finally:
        scene.fires(lose_power(scene.system.stack.postgresql, control))
        start_again(scene.system)


def lose_power(server: Postgresql, control: Control) -> int:
    """The server is dead, and its WAL holds what was synced. Answers how many pages went, since the journal is on."""
    control.set(syncs_wait=1)
    time.sleep(_LAST_SYNC_S)
    _kill_all(server)
    lost = control.unsynced()
    take_back(lost, server.folder / "pg_wal")
    control.heal()
    return len(lost)


def _broken(scene: Scene, **faults: int) -> Iterator[None]:
    control = scene.system.shim["postgresql"]
    before = control.met
    control.set(**faults)
    try:
        yield
    finally:
        control.heal()
        scene.fires(control.met - before)
        start_again(scene.system)


def start_again(system: System, answers_within_s: float = _ANSWERS_WITHIN_S) -> None:
    """It answers when this returns, whether it recovers by itself, ends in the middle of that, or never fell.

    Nor does it always do one of these: when the checkpointer of a recovery falls, as it does on a full disk, PostgreSQL
    18 takes another one, and the recovery waits for ever for the checkpoint that the first had been asked for.
    """
    server = system.stack.postgresql

    def is_up() -> bool:
        server.start()
        with system.engine.connect() as connection:
            return bool(connection.execute(text("SELECT NOT pg_is_in_recovery()")).scalar())

    try:
        system.wait(is_up, "PostgreSQL did not answer", answers_within_s)
    except ChaosFailed:
        _kill_all(server)
        system.wait(is_up, "PostgreSQL did not come back", _UP_WITHIN_S)


def _kill_all(server: Postgresql) -> None:
    server.kill()
    while pids := list(processes_of(server.cluster_name)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
