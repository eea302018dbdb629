"""Connections to PostgreSQL: one pool per process, synchronous SQLAlchemy Core over psycopg 3.

Every session bounds how long it may wait for a lock or sit idle in a transaction, so that a stopped process
(SIGSTOP, a lost network) cannot hold rows for ever. A commit that did not wait for its standby has not succeeded.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg.types.json import set_json_loads
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text

from domain.session import Session, ready_cryptography

#: Long enough for any batch of ours, short enough that a frozen process frees its row locks.
IDLE_IN_TRANSACTION_MS = 10_000
LOCK_TIMEOUT_MS = 5_000

#: Every hot statement finds few rows by their keys: by the index, in the order of the ids, in which all of them lock.
_PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}

_END_WITHIN = text("SELECT set_config('transaction_timeout', :milliseconds, true)")

# jsonb comes back through msgspec: several times faster than the standard library, same objects.
set_json_loads(msgspec.json.decode)


def connect(  # noqa: PLR0913  # all that a session can be like, each by its name
    url: str,
    *,
    process: str,
    role: str | None = None,
    pool_size: int = 5,
    pool_timeout_s: float = 2.0,
    idle_in_transaction_ms: int = IDLE_IN_TRANSACTION_MS,
    statement_timeout_ms: int = 0,
    silence_s: float | None = None,
    hot: bool = False,
) -> Engine:
    """An engine whose sessions carry the process name. Opens no connection yet; connecting takes at most 2 s.

    `role`: one of `domain.roles` that the sessions take; without one they are who the URL says, the owner.

    `silence_s`: how long PostgreSQL may take over one statement or commit before it counts as away, whatever it does
    meanwhile. What was to be committed may have been.

    `hot`: for few statements run very often, by callers who can take a lost connection. Nothing is planned twice, and
    no connection is tried out before its use; a plan made while the tables were small must not read them whole later.
    """
    ready_cryptography()
    place = make_url(_with_driver(url))
    given = place.normalized_query.get("options", ())  # of two words for one thing, the later holds
    options = _session_options(role, idle_in_transaction_ms, statement_timeout_ms, hot=hot)
    engine = create_engine(
        place,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_s,
        pool_pre_ping=not hot,
        hide_parameters=True,  # errors reach the log, and parameters are customers' data
        connect_args={
            "connect_timeout": 2,
            "prepare_threshold": 0 if hot else 5,
            "application_name": f"longshore-{process}",
            "options": " ".join((*given, *options)),
            # An unacknowledged packet ends the connection: without it a black-holed link holds a thread for minutes.
            "tcp_user_timeout": 5_000,
            "keepalives_idle": 5,
        },
    )
    event.listen(engine, "do_connect", _log_in_with(silence_s))
    return engine


def _session_options(
    role: str | None, idle_in_transaction_ms: int, statement_timeout_ms: int, *, hot: bool
) -> list[str]:
    options: dict[str, int | str] = {
        "idle_in_transaction_session_timeout": idle_in_transaction_ms,
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": statement_timeout_ms,
        "timezone": "UTC",
        **({"role": role} if role else {}),
        **(_PLANNED_ONCE if hot else {}),
    }
    return [f"-c {name}={value}" for name, value in options.items()]


def _log_in_with(silence_s: float | None) -> Callable[..., Session]:
    def log_in(_dialect: object, _record: object, words: Any, named: Any) -> Session:
        session = Session.connect(*words, **named)
        session.silence_s = silence_s
        return session

    return log_in


def _with_driver(url: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url


def end_within(tx: Connection, seconds: float) -> None:
    """The transaction ends within this time from now, and its locks with it: past it PostgreSQL ends the session."""
    tx.execute(_END_WITHIN, {"milliseconds": str(max(1, round(1_000 * seconds)))})


def database_clock(tx: Connection) -> datetime:
    """The clock that judges what is due and what has expired: one for all, whatever their machines say."""
    now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
    return now


class DatabaseTime:
    """The database's clock as this process heard it last, carried on by a clock that nobody sets.

    What a process decides is due, late or parked until then is so by the clock that will judge it, whatever its own
    machine says. Good to the time that a statement takes. Before anything was heard it is the machine's clock.
    """

    def __init__(self) -> None:
        self._ahead_s = datetime.now(UTC).timestamp() - time.monotonic()

    def hear(self, said: datetime) -> None:
        """The database has just said that it is this time."""
        self._ahead_s = said.timestamp() - time.monotonic()

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.monotonic() + self._ahead_s, UTC)


database_time = DatabaseTime()
