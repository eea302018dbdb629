"""What is committed here and not yet on the standby that commits wait for is not reported as done.

With synchronous replication a commit waits until a standby has it. When that wait is cancelled PostgreSQL commits all
the same, here alone, and only warns; after a failover the transaction is gone. So its outcome is unknown, as when the
connection is lost during a commit. Without a standby nothing of this happens.
"""

import psycopg
from sqlalchemy import Connection, text

# Has a transaction number and writes a record, so its commit waits for the standby; nothing is left in any table.
_MARK = text("SELECT pg_logical_emit_message(true, 'longshore', '')")


class NotReplicated(psycopg.OperationalError):
    """Committed on this server, perhaps on no other: the outcome is unknown."""


def wait_for_standby(tx: Connection) -> None:
    """The commit of this transaction, on an autocommit connection this call, waits as if something had been written.

    A commit whose wait was cancelled, or that a crash cut short, can be seen like any other. Once this one is committed
    all that it has read is on the standby too: who promises anything because of what was found asks for this first.
    Raises as a commit does.
    """
    tx.execute(_MARK)
