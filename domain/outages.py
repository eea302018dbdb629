"""Which errors say that the database is away for now, and not that anything is wrong with what it was asked."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: Connection exceptions, a server that takes no writes (yet, or any more), a session that sat idle in its transaction
#: because its process was stopped, a full disk, too many connections, shutdown and start-up (PostgreSQL, appendix A).
_STATES = ("08", "25006", "25P03", "53100", "53300", "57P")


def is_outage(error: BaseException) -> bool:
    """The same may work in a moment, with the same words. A commit that met an outage may have happened."""
    if isinstance(error, InterfaceError | PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    unreachable = state is None and isinstance(error, OperationalError)
    return error.connection_invalidated or unreachable or (state or "").startswith(_STATES)
