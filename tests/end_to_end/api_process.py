"""API processes of a test's own beside the running system's: on the same database, to be stopped as the test likes."""

import http.client
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ops.stack import PORTS
from tests.end_to_end.running import Running, wait_until
from tests.end_to_end.wrong_clock import python


class ApiProcess:
    """One `longshore web`. `log` is what it said, line by line."""

    def __init__(self, system: Running, folder: Path, clock_off_s: int, log_is_read: bool, **settings: str) -> None:
        self.port, self._log = _free_port(), folder / f"web-{time.monotonic_ns()}.log"
        environ = {**os.environ, **system.env, "PORT": str(self.port), "LOG_FORMAT": "json", **settings}
        self.headers = {"X-API-Key": system.env["LONGSHORE_API_KEY"], "Content-Type": "application/json"}
        command = python("ops.cli", "web", clock_off_s=clock_off_s)
        with self._log.open("wb") if log_is_read else _deaf_pipe() as out:
            self.process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT)
        wait_until(self.accepts_connections)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.connect()
        return connection

    def accepts_connections(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def order(self, sku: str, key: str) -> tuple[int, dict[str, str], Any]:
        """One order on a connection of its own: status, headers, body."""
        connection = self.connect()
        ask_for(connection, self.headers, sku, key)
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return response.status, dict(response.getheaders()), body

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


def ask_for(connection: http.client.HTTPConnection, headers: dict[str, str], sku: str, key: str) -> None:
    """The request goes out; its answer is left on the connection."""
    order = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": sku, "quantity": 1}]}
    connection.request("POST", "/api/v1/orders", json.dumps(order), {**headers, "Idempotency-Key": key})


@contextmanager
def api_process(
    system: Running, folder: Path, clock_off_s: int = 0, log_is_read: bool = True, **settings: str
) -> Iterator[ApiProcess]:
    """Ready to serve; ended afterwards, if the test has not."""
    started = ApiProcess(system, folder, clock_off_s, log_is_read, **settings)
    try:
        yield started
    finally:
        started.process.terminate()
        started.process.wait(40)


def _deaf_pipe() -> BinaryIO:
    """Whoever read it has died."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


def _free_port() -> int:
    """Below the kernel's range for outgoing connections, one of which could take it meanwhile."""
    for port in iter(lambda: random.choice(PORTS), None):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")
