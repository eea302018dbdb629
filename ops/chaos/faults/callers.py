"""Faults of those who call: bodies and connections that no well-meaning caller sends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from ops.chaos.bombs import DEFLATE, GZIP, folded_blanks
from ops.chaos.clients import Client
from ops.chaos.faults import Scene, fault
from ops.chaos.memory import grown, resident
from ops.chaos.wires import HOST

_SLOW = 30
_DRIP_EVERY_S = 0.5
_POST = "POST /api/v1/orders HTTP/1.1\r\nhost: x\r\n"


@fault("F54", "bad-bodies", "callers", (1.0, 3.0))
def send_garbage(scene: Scene) -> Iterator[None]:
    """Huge, deep, broken and hostile bodies: refused as the caller's fault, never as ours."""
    client = Client(list(scene.system.ports.values()), scene.dice, scene.history)
    key = scene.history.posted[0].tenant.api_key
    before = resident(scene.system, "web")
    bodies = [
        b"[" * 100_000,
        b'{"customerEmail": "' + b"a" * 10_000_000 + b'"}',
        b'{"customerEmail": "\\u0000@example.com", "currency": "USD", "lines": []}',
        b'{"customerEmail": "\xff@example.com"}',
        b'{"lines": [{"sku": "X", "quantity": 1e400}]}',
        scene.dice.randbytes(1_000),
    ]
    for body in bodies:
        _send(scene, *client.call("POST", "/orders", key, body, Idempotency_Key=uuid4().hex))
    for encoding in ("gzip", "deflate", "gzip, gzip"):
        bomb = folded_blanks(DEFLATE if encoding == "deflate" else GZIP)
        said = {"Idempotency_Key": uuid4().hex, "Content_Encoding": encoding}
        _send(scene, *client.call("POST", "/orders", key, bomb, **said))
    yield
    for what in grown(before, resident(scene.system, "web")):
        scene.history.is_strange(f"at bad bodies, API {what}")


def _send(scene: Scene, status: int, said: bytes) -> None:
    scene.fires(400 <= status < 500)
    if 200 <= status < 300 or (status >= 500 and status != 503):
        scene.history.is_strange(f"a bad body was answered {status} {said[:100]!r}")


@fault("F54", "slow-bodies", "callers", (3.0, 6.0))
def drip_bodies(scene: Scene) -> Iterator[None]:
    """Bodies that come a byte at a time, and not to an end: nobody else waits for them."""
    key = scene.history.posted[0].tenant.api_key
    head = f"{_POST}x-api-key: {key}\r\nidempotency-key: {uuid4().hex}\r\ncontent-type: application/json\r\n"
    held = _held(scene, f"{head}content-length: 100000\r\n\r\n{{".encode())
    healed = threading.Event()

    def drip() -> None:
        while not healed.wait(_DRIP_EVERY_S):
            for end in held:
                with suppress(OSError):
                    end.sendall(b" ")

    threading.Thread(target=drip, daemon=True).start()
    yield
    healed.set()
    for end in held:
        end.close()


@fault("F62", "slowloris", "callers", (3.0, 6.0))
def hold_connections(scene: Scene) -> Iterator[None]:
    """Requests that never end."""
    held = _held(scene, f"{_POST}content-length: 100\r\n".encode())
    yield
    for end in held:
        with suppress(OSError):
            end.sendall(b"x")
            end.close()


def _held(scene: Scene, said: bytes) -> list[socket.socket]:
    """Connections on which this was said, and no more."""
    held = []
    for _ in range(_SLOW):
        with suppress(OSError):
            end = socket.create_connection((HOST, scene.dice.choice(list(scene.system.ports.values()))), timeout=2)
            end.sendall(said)
            held.append(end)
    scene.fires(len(held))
    return held
