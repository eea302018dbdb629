"""What is committed here and not yet on the standby that commits wait for is not reported as done.

With synchronous replication a commit waits until a standby has it. When that wait is cancelled PostgreSQL commits all
the same, here alone, and only warns; after a failover the transaction is gone. So its outcome is unknown, as when the
connection is lost during a commit. Without a standby nothing of this happens.
"""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text

_T = TypeVar("_T")

#: The function of the server that warns: the words of the warning are translated, this is not.
_WARNS = "SyncRepWaitForLSN"

# Has a transaction number and writes a record, so its commit waits for the standby; nothing is left in any table.
_MARK = text("SELECT pg_logical_emit_message(true, 'longshore', '')")


class NotReplicated(psycopg.OperationalError):
    """Committed on this server, perhaps on no other: the outcome is unknown."""


class Session(psycopg.Connection[Any]):
    """Whatever commits, a statement or `commit`, raises NotReplicated when its wait for the standby was cancelled.

    It is closed when an exchange was cut off on this side, by a want of memory for one: the answer that is still to
    come would stand in the way of all who use it after that.
    """

    _warned = False

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.add_notice_handler(self._hear)

    def _hear(self, said: psycopg.errors.Diagnostic) -> None:
        if said.source_function == _WARNS:
            self._warned = True

    def wait(self, gen: PQGen[_T], *words: Any, **named: Any) -> _T:
        """Every exchange with the server comes through here."""
        try:
            answer = super().wait(gen, *words, **named)
        except BaseException:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise
        if self._warned:
            self._warned = False
            raise NotReplicated("committed here, but its wait for a standby was cancelled")
        return answer


def wait_for_standby(tx: Connection) -> None:
    """The commit of this transaction, on an autocommit connection this call, waits as if something had been written.

    A commit whose wait was cancelled, or that a crash cut short, can be seen like any other. Once this one is committed
    all that it has read is on the standby too: who promises anything because of what was found asks for this first.
    Raises as a commit does.
    """
    tx.execute(_MARK)
