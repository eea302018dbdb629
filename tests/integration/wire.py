"""A TCP proxy between a process and its server: it loses or holds exactly the message a test names."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from urllib.parse import urlsplit

CHUNK = 65_536


class Wire:
    """Passes everything on, until it is told otherwise for the next message that holds a word."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._word: bytes | None = None
        self._answer_word: bytes | None = None
        self._request_is_lost = self._reply_is_lost = False
        self._sockets: list[socket.socket] = []
        #: Set when the named request was seen.
        self.seen = Event()
        #: While it is clear, the answer to the named request is on its way.
        self.reply_may_pass = Event()
        Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def lose_request(self, word: bytes) -> None:
        """The connection breaks before the server has heard the next request with this word."""
        self._arm(word, request_is_lost=True)

    def lose_reply(self, word: bytes) -> None:
        """The server does what the next request with this word asks for; the connection breaks before its answer."""
        self._arm(word, reply_is_lost=True)
        self.reply_may_pass.set()

    def hold_reply(self, word: bytes) -> None:
        """The server does what the next request with this word asks for; its answer waits for `reply_may_pass`."""
        self._arm(word)

    def lose_answer_with(self, word: bytes) -> None:
        """The next answer that holds this word never arrives; its connection breaks."""
        self.seen.clear()
        self._answer_word = word

    def cut(self) -> None:
        """Every connection breaks; new ones may be made."""
        for end in self._sockets:
            _close(end)
        self._sockets.clear()

    def close(self) -> None:
        self.reply_may_pass.set()
        _close(self._listener)  # closing alone would not end an accept that is under way
        self.cut()

    def _arm(self, word: bytes, *, request_is_lost: bool = False, reply_is_lost: bool = False) -> None:
        self._request_is_lost, self._reply_is_lost = request_is_lost, reply_is_lost
        self.seen.clear()
        self.reply_may_pass.clear()
        self._word = word

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                named = Event()
                Thread(target=self._requests, args=(client, server, named), daemon=True).start()
                Thread(target=self._replies, args=(client, server, named), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, named: Event) -> None:
        with suppress(OSError):
            while data := client.recv(CHUNK):
                if self._word is not None and self._word in data:
                    self._word = None
                    if self._request_is_lost:
                        self.seen.set()
                        break
                    named.set()
                server.sendall(data)
        _close(client)
        _close(server)

    def _replies(self, client: socket.socket, server: socket.socket, named: Event) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                if named.is_set():
                    named.clear()
                    self.seen.set()
                    self.reply_may_pass.wait(30)
                    if self._reply_is_lost:
                        break
                if self._answer_word is not None and self._answer_word in data:
                    self._answer_word = None
                    self.seen.set()
                    break
                client.sendall(data)
        _close(client)
        _close(server)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wire_to(url: str) -> Iterator[tuple[Wire, str]]:
    """A wire to the server of this URL, and the URL of its near end."""
    parts = urlsplit(url)
    wire = Wire(parts.hostname or "127.0.0.1", parts.port or 0)
    credentials, at, _ = parts.netloc.rpartition("@")
    try:
        yield wire, parts._replace(netloc=f"{credentials}{at}127.0.0.1:{wire.port}").geturl()
    finally:
        wire.close()
