"""A wire bends what a fault chose, and nothing else."""

import os
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from ops.chaos.sockets import holder_of
from ops.chaos.wires import HOST, Bend, Wires


class Echo(socketserver.StreamRequestHandler):
    """Says each line again."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def wires() -> Iterator[Wires]:
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server, Wires(1) as wires:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wires.port = wires.add("echo", server.server_address[1])  # type: ignore[attr-defined]
        yield wires
        server.shutdown()


def caller(wires: Wires) -> socket.socket:
    return socket.create_connection((HOST, wires.port), timeout=1.0)  # type: ignore[attr-defined]


def ask(end: socket.socket, said: bytes) -> bytes:
    end.sendall(said)
    try:
        return end.recv(100)
    except TimeoutError:
        return b"(silence)"


def test_a_bend_waits_for_its_words_in_their_order_and_strikes_who_said_them(wires: Wires) -> None:
    with caller(wires) as one, caller(wires) as other:
        wires.bend("echo", Bend("replies", swallow=True, after=(b"PUSH", b"COMMIT")))
        assert ask(one, b"COMMIT\n") == b"COMMIT\n"
        assert ask(one, b"PUSH\n") == b"PUSH\n"
        assert wires.struck("echo") == []
        assert ask(one, b"COMMIT\n") == b"(silence)"
        assert ask(other, b"COMMIT\n") == b"COMMIT\n"
        assert wires.struck("echo") == [one.getsockname()[1]]
        assert holder_of(one.getsockname()[1], {"nobody": 1, "us": os.getpid()}) == "us"
        wires.straighten("echo")
        assert wires.struck("echo") == []
        assert ask(other, b"PUSH\n") == b"PUSH\n"
