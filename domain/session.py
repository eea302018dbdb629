"""A session of the database: one that cannot be trusted any more says so, or is closed, and serves nobody after that.

`domain.database` makes all sessions of this class.
"""

from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import PGconn, TransactionStatus

from domain.standby import NotReplicated

_T = TypeVar("_T")

_CANCEL_WITHIN_S = 1.0
#: The function of the server that warns: the words of the warning are translated, this is not.
_WARNS = "SyncRepWaitForLSN"


class Session(psycopg.Connection[Any]):
    """Whatever commits, a statement or `commit`, raises NotReplicated when its wait for the standby was cancelled.

    An exchange that takes longer than `silence_s` raises OperationalError: a frozen server answers nothing, not even
    that a statement took too long. The session is closed when an exchange was cut off on this side, by that or by a
    want of memory: the answer that is still to come would stand in the way of all who use it after that.
    """

    silence_s: float | None = None
    _warned = False

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.add_notice_handler(self._hear)

    def _hear(self, said: psycopg.errors.Diagnostic) -> None:
        if said.source_function == _WARNS:
            self._warned = True

    def wait(self, gen: PQGen[_T], *words: Any, **named: Any) -> _T:
        """Every exchange with the server comes through here."""
        named.setdefault("timeout", self.silence_s)
        try:
            answer = super().wait(gen, *words, **named)
        except BaseException as error:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                if isinstance(error, psycopg.OperationalError):
                    self._release_server()
                self.close()
            raise
        if self._warned:
            self._warned = False
            raise NotReplicated("committed here, but its wait for a standby was cancelled")
        return answer

    def _release_server(self) -> None:
        """A process of the server that waits for a standby would wait on: nobody listens, and each is a connection."""
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=_CANCEL_WITHIN_S)


@cache
def ready_cryptography() -> None:
    """What a log-in needs of OpenSSL is there from now on. Opens no connection.

    OpenSSL that meets a want of memory while it makes itself ready stays broken for the life of its process: no log-in
    succeeds any more ("could not generate nonce"). So it does that before there is work, and a process that cannot dies
    at its start.
    """
    nowhere = PGconn.connect_start(b"malformed, so that nothing is opened")
    nowhere.encrypt_password(b"any", b"any", b"scram-sha-256")
    nowhere.finish()
