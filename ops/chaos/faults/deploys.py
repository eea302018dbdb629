"""A deploy under load: every process in turn, some of older code among them, and a migration beside it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ops.chaos.faults import Scene, fault
from ops.chaos.faults.processes import enqueue_all
from ops.chaos.flags import flagged
from ops.chaos.kinds import Newest
from ops.migrate import upgrade

_OLDER = "worker-1"
_REPLACED_WITHIN_S, _ROLLED_WITHIN_S = 20.0, 60.0
_DDL = (
    "ALTER TABLE orders ADD COLUMN IF NOT EXISTS chaos_note text",
    "DROP INDEX CONCURRENTLY IF EXISTS ix_chaos_note",
    "CREATE INDEX CONCURRENTLY ix_chaos_note ON orders (chaos_note)",
)


@fault("F55", "deploy", "web", (8.0, 11.0))
def deploy(scene: Scene) -> Iterator[None]:
    """Every process is replaced in turn, one worker by older code; the schema gains a column and an index meanwhile."""
    _migrate(scene)
    with flagged(scene.system.folder, _OLDER, "older"):
        rolling = threading.Thread(target=_replace_all, args=(scene,), daemon=True)
        rolling.start()
        yield
        rolling.join(_ROLLED_WITHIN_S)
    _replace(scene, _OLDER)


def _replace_all(scene: Scene) -> None:
    for name in sorted(scene.system.pids):
        _replace(scene, name)
        with suppress(DBAPIError):
            enqueue_all(scene, Newest(), Newest(), Newest())


def _replace(scene: Scene, name: str) -> None:
    """SIGTERM, and another stands in its place."""
    pid = scene.system.pids.get(name)
    scene.system.signal(name, signal.SIGTERM)
    if scene.comes_true(lambda: scene.system.pids.get(name, pid) != pid, _REPLACED_WITHIN_S):
        scene.fires()


def _migrate(scene: Scene) -> None:
    """As an operator does it: with a short lock_timeout, and not at all where it cannot be had."""
    with suppress(DBAPIError):
        upgrade(scene.system.stack.database_url)
        engine = create_engine(scene.system.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = '1s'"))
            for statement in _DDL:
                connection.execute(text(statement))
                scene.fires()
