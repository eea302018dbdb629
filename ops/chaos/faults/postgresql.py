"""Faults of PostgreSQL: killed, restarted again and again, sessions ended, slots and locks taken, an old snapshot."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ops.chaos.faults import Scene, fault

_SESSIONS = text(
    """
    SELECT pid FROM pg_stat_activity
     WHERE application_name LIKE 'longshore-%' AND application_name <> 'longshore-chaos'
       AND backend_type = 'client backend'
    """
)
_END = text("SELECT pg_terminate_backend(CAST(:pid AS int))")


@fault("F25", "postgresql-kill9", "postgresql", (0.2, 3.0))
def kill(scene: Scene) -> Iterator[None]:
    """kill -9 of PostgreSQL under load, and crash recovery."""
    scene.system.stack.postgresql.kill()
    scene.fires()
    try:
        yield
    finally:
        scene.system.stack.postgresql.start()


@fault("F26", "postgresql-restarts", "postgresql", (0.2, 1.0))
def restart_again_and_again(scene: Scene) -> Iterator[None]:
    """Three crashes in a row, each just after it was up."""
    server = scene.system.stack.postgresql
    for _ in range(2):
        server.kill()
        scene.fires()
        server.start()
        time.sleep(scene.dice.uniform(0.2, 1.0))
    server.kill()
    scene.fires()
    try:
        yield
    finally:
        server.start()


@fault("F27", "sessions-ended", "postgresql")
def end_sessions(scene: Scene) -> Iterator[None]:
    """pg_terminate_backend on half of our sessions, whatever they are doing."""
    with suppress(DBAPIError), scene.system.engine.connect() as connection:
        pids = list(connection.execute(_SESSIONS).scalars())
        for pid in scene.dice.sample(pids, len(pids) // 2):
            scene.fires(bool(connection.execute(_END, {"pid": pid}).scalar()))
    yield


@fault("F33", "no-slots", "postgresql", (3.0, 6.0))
def take_every_slot(scene: Scene) -> Iterator[None]:
    """Somebody else takes all connections that are left."""
    engine = create_engine(scene.system.engine.url, poolclass=NullPool)
    with ExitStack() as taken:
        with suppress(DBAPIError):
            for _ in range(250):
                taken.enter_context(engine.connect())
                scene.fires()
        yield


@fault("F34", "old-snapshot", "postgresql", (8.0, 20.0))
def hold_a_snapshot(scene: Scene) -> Iterator[None]:
    """A reader that keeps every dead row from being cleaned up."""
    engine = create_engine(scene.system.engine.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM orders"))
        scene.fires()
        yield
        with suppress(DBAPIError):
            connection.rollback()


@fault("F35", "lock-hog", "postgresql", (3.0, 7.0))
def hold_a_lock(scene: Scene) -> Iterator[None]:
    """LOCK TABLE on the outbox, the jobs, the orders or the stock, for seconds."""
    engine = create_engine(scene.system.engine.url, poolclass=NullPool)
    table = scene.dice.choice(["outbox", "jobs", "stock", "orders"])
    with engine.connect() as connection:
        with suppress(DBAPIError):
            connection.execute(text("SET lock_timeout = '3s'"))
            connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            scene.fires()
        yield
        with suppress(DBAPIError):
            connection.rollback()


@fault("F59", "postgresql-stop", "postgresql", (2.0, 6.0))
def freeze_a_session(scene: Scene) -> Iterator[None]:
    """SIGSTOP of some sessions' processes: their callers wait, and hold what they hold."""
    stopped = []
    with suppress(DBAPIError), scene.system.engine.connect() as connection:
        pids = list(connection.execute(_SESSIONS).scalars())
        for pid in scene.dice.sample(pids, min(3, len(pids))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
    scene.fires(len(stopped))
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
