"""Faults of many who want the same: rows locked in the wrong order, one SKU for all, and nobody who cleans up."""

import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ops.chaos.faults import Scene, fault
from ops.chaos.guests import guest

_HOT_CALLERS, _HOT_STOCK = 64, 25
_FOR_S = 3.0
_DEAD_ROWS = 20_000
_BACK_WITHIN_S = 60.0

_SKUS = text("SELECT sku FROM stock WHERE tenant_id = :tenant_id ORDER BY sku DESC")
_LOCK = text("SELECT FROM stock WHERE tenant_id = :tenant_id AND sku = :sku FOR UPDATE")
_DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
#: Of jobs that never were, in a transaction that never ends well: nothing of it is seen, all of it is in the way.
_BLOAT = text(
    """
    INSERT INTO outbox (job_id, queue, kind, tenant_id, due_at)
    SELECT gen_random_uuid(), 'inventory', 'inventory.reserve', :tenant_id, clock_timestamp()
      FROM generate_series(1, :rows)
    """
)


@fault("F36", "deadlocks", "postgresql", (3.0, 5.0))
def lock_in_reverse(scene: Scene) -> Iterator[None]:
    """Somebody's script locks stock from the other end, and PostgreSQL ends our transaction of the two."""
    engine = create_engine(scene.system.engine.url, poolclass=NullPool)
    before = _deadlocks(engine)
    until = time.monotonic() + _FOR_S
    while time.monotonic() < until:
        with suppress(DBAPIError), engine.connect() as connection:
            _lock_downwards(connection, UUID(scene.tenant_id), until)
    yield
    with suppress(DBAPIError):
        scene.fires(_deadlocks(engine) - before)


def _lock_downwards(connection: Connection, tenant_id: UUID, until: float) -> None:
    connection.execute(text("SET deadlock_timeout = '20s'"))  # whoever looks first is the one to go: the other
    connection.execute(text("SET lock_timeout = '6s'"))
    for sku in connection.execute(_SKUS, {"tenant_id": tenant_id}).scalars().all():
        if time.monotonic() < until:
            connection.execute(_LOCK, {"tenant_id": tenant_id, "sku": sku})
            time.sleep(0.05)
    connection.rollback()


def _deadlocks(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(_DEADLOCKS).scalar_one())


@fault("F37", "hot-sku", "callers", (2.0, 5.0))
def want_the_same(scene: Scene) -> Iterator[None]:
    """64 callers order one SKU at the same moment, and there are 25 of it."""
    if visitor := guest(scene, _HOT_STOCK):
        visitor.order(_HOT_CALLERS)
        scene.fires(_HOT_CALLERS)
    yield


@fault("F38", "autovacuum-off", "postgresql", (4.0, 10.0))
def leave_the_dead(scene: Scene) -> Iterator[None]:
    """Nobody cleans up, and there are 20,000 dead rows in the outbox."""
    engine = create_engine(scene.system.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    _set_autovacuum(engine, "ALTER SYSTEM SET autovacuum = off")
    with scene.system.engine.connect() as connection:
        connection.execute(_BLOAT, {"tenant_id": UUID(scene.tenant_id), "rows": _DEAD_ROWS})
        connection.rollback()
        scene.fires(_DEAD_ROWS)
    try:
        yield
    finally:
        back = "ALTER SYSTEM RESET autovacuum"
        scene.system.wait(lambda: _set_autovacuum(engine, back), "nobody could clean up again", _BACK_WITHIN_S)


def _set_autovacuum(engine: Engine, command: str) -> bool:
    with engine.connect() as connection:
        connection.execute(text(command))
        connection.execute(text("SELECT pg_reload_conf()"))
    return True
