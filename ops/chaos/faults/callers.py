"""Faults of those who call: bodies and connections that no well-meaning caller sends."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from ops.chaos.clients import Client
from ops.chaos.faults import Scene, fault
from ops.chaos.wires import HOST

_SLOW = 30


@fault("F54", "bad-bodies", "callers", (1.0, 3.0))
def send_garbage(scene: Scene) -> Iterator[None]:
    """Huge, deep, broken and hostile bodies: refused as the caller's fault, never as ours."""
    client = Client(list(scene.system.ports.values()), scene.dice, scene.history)
    tenant = next(posted.tenant for posted in scene.history.posted)
    bodies = [
        b"[" * 100_000,
        b'{"customerEmail": "' + b"a" * 2_000_000 + b'"}',
        b'{"customerEmail": "\\u0000@example.com", "currency": "USD", "lines": []}',
        b'{"customerEmail": "\xff@example.com"}',
        b'{"lines": [{"sku": "X", "quantity": 1e400}]}',
        scene.dice.randbytes(1_000),
    ]
    for body in bodies:
        status, _ = client.call("POST", "/orders", tenant.api_key, body, Idempotency_Key=uuid4().hex)
        scene.fires(400 <= status < 500)
        if status >= 500 and status != 503:
            scene.history.is_strange(f"a bad body was answered {status}")
    yield


@fault("F62", "slowloris", "callers", (3.0, 6.0))
def hold_connections(scene: Scene) -> Iterator[None]:
    """Requests that never end."""
    held = []
    for _ in range(_SLOW):
        with suppress(OSError):
            end = socket.create_connection((HOST, scene.dice.choice(list(scene.system.ports.values()))), timeout=2)
            end.sendall(b"POST /api/v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n")
            held.append(end)
    scene.fires(len(held))
    yield
    for end in held:
        with suppress(OSError):
            end.sendall(b"x")
            end.close()
