"""Loopback ports for development: the one asked for or none, or the first free one from a number on."""

import socket
import time
from collections.abc import Iterable

from ops.stack import PORTS


class PortTaken(Exception):
    """Somebody listens there."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken by another process; choose another with --port")
        self.port = port


class Ports:
    """Gives each port once. The same ones come again as long as nobody else took them."""

    def __init__(self, host: str, patience_s: float = 0.0) -> None:
        self._host, self._patience_s, self._given = host, patience_s, set[int]()

    def exactly(self, port: int) -> int:
        """Raises PortTaken if it does not become free within the patience."""
        deadline = time.monotonic() + self._patience_s
        while not self._is_free(port):
            if time.monotonic() >= deadline:
                raise PortTaken(port)
            time.sleep(0.1)
        self._given.add(port)
        return port

    def first_free(self, start: int) -> int:
        """The first one from `start` on that nobody has; near the top of the range, from a range of its own."""
        candidates: Iterable[int] = range(start, start + 1000) if start + 1000 < 2**16 else PORTS
        port = next(port for port in candidates if port not in self._given and self._is_free(port))
        self._given.add(port)
        return port

    def _is_free(self, port: int) -> bool:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run do not count
            try:
                probe.bind((self._host, port))
            except OSError:
                return False
        return True
