"""Connections to PostgreSQL: one pool per process, synchronous SQLAlchemy Core over psycopg 3.

Every session bounds how long it may wait for a lock or sit idle in a transaction, so that a stopped process
(SIGSTOP, a lost network) cannot hold rows for ever.
"""

import msgspec
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine

#: Long enough for any batch of ours, short enough that a frozen process frees its row locks.
IDLE_IN_TRANSACTION_MS = 10_000
LOCK_TIMEOUT_MS = 5_000


# jsonb comes back through msgspec: several times faster than the standard library, same objects.
set_json_loads(msgspec.json.decode)


def connect(
    url: str,
    *,
    process: str,
    pool_size: int = 5,
    pool_timeout_s: float = 2.0,
    idle_in_transaction_ms: int = IDLE_IN_TRANSACTION_MS,
    statement_timeout_ms: int = 0,
) -> Engine:
    """An engine whose sessions carry the process name. Opens no connection yet; connecting takes at most 2 s."""
    options = {
        "idle_in_transaction_session_timeout": idle_in_transaction_ms,
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": statement_timeout_ms,
        "timezone": "UTC",
    }
    return create_engine(
        _with_driver(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_s,
        pool_pre_ping=True,
        hide_parameters=True,  # errors reach the log, and parameters are customers' data
        connect_args={
            "connect_timeout": 2,
            "application_name": f"longshore-{process}",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            # An unacknowledged packet ends the connection: without it a black-holed link holds a thread for minutes.
            "tcp_user_timeout": 5_000,
            "keepalives_idle": 5,
        },
    )


def _with_driver(url: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url
