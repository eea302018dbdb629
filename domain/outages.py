"""What an error of the database says: that it is away for now, that time is up, or that somebody holds a row."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: Connection exceptions, a server that takes no writes (yet, or any more), a session that sat idle in its transaction
#: because its process was stopped, a full disk, too many connections, shutdown and start-up (PostgreSQL, appendix A).
_STATES = ("08", "25006", "25P03", "53100", "53300", "57P")
_TRANSACTION_TIMEOUT = "25P04"
_LOCK_NOT_AVAILABLE = "55P03"


def is_outage(error: BaseException) -> bool:
    """The same may work in a moment, with the same words. A commit that met an outage may have happened."""
    if isinstance(error, InterfaceError | PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    unreachable = state is None and isinstance(error, OperationalError)
    is_away = error.connection_invalidated or unreachable or (state or "").startswith(_STATES)
    return is_away and not is_over_time(error)


def is_over_time(error: BaseException) -> bool:
    """PostgreSQL ended the session, because its transaction went on for longer than `end_within` allowed it."""
    return isinstance(error, DBAPIError) and _state(error) == _TRANSACTION_TIMEOUT


def is_locked(error: BaseException) -> bool:
    """Somebody holds a row for longer than a session of ours waits for it."""
    return isinstance(error, DBAPIError) and _state(error) == _LOCK_NOT_AVAILABLE


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
