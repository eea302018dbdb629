"""Which of several like processes does the work that one alone shall do: the holder of a session's advisory lock.

The lock dies with the session: at once when the process dies, within seconds when it freezes (its session is then idle
for too long) or when its machine is gone.
"""

from sqlalchemy import Connection, Engine, text

#: A leader that says nothing for this long leads no more.
SILENT_FOR_MS = 2_000

_TRY = text("SELECT pg_try_advisory_lock(hashtext('longshore'), hashtext(:role))")
# A frozen process keeps its sockets open: the server must end its session. No parameter can stand in SET.
_END_WHEN_SILENT = text(f"SET idle_session_timeout = {SILENT_FOR_MS}")


class Leadership:
    """Held or not; ask before each piece of work. The work's reads belong on `connection`, whose loss is its end.

    `engine` is one in autocommit: a transaction left open would be ended by the server, and the leadership with it.
    """

    def __init__(self, engine: Engine, role: str) -> None:
        self._engine, self._role = engine, role
        self._connection: Connection | None = None
        self._is_held = False

    @property
    def connection(self) -> Connection:
        """The session that holds the lock. Only while it is held."""
        if self._connection is None:
            raise RuntimeError(f"this process does not lead as {self._role}")
        return self._connection

    def is_held(self) -> bool:
        """True when this process leads now; tries to lead if nobody does. Raises DBAPIError: the session is lost."""
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.execute(_END_WHEN_SILENT)
            self._connection.detach()  # never back to the pool: the lock would go with it
        if not self._is_held:
            self._is_held = bool(self._connection.execute(_TRY, {"role": self._role}).scalar())
        return self._is_held

    def give_up(self) -> None:
        """Another process may lead. The session ends, whether or not it is still there."""
        connection, self._connection, self._is_held = self._connection, None, False
        if connection is not None:
            connection.close()  # since it was detached, this ends the session
