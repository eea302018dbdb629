"""Loopback ports for development: the one asked for or none, or the first free one from a number on.

A port that was given stays ours while this process lives, also before somebody listens on it.
"""

import socket
import sys
import time
from collections.abc import Iterable

from ops.stack import PORTS

#: One name per port given, in a space where a name has one holder and goes with it.
_CLAIMS: list[socket.socket] = []


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
        while not self._take(port):
            if time.monotonic() >= deadline:
                raise PortTaken(port)
            time.sleep(0.1)
        return port

    def preferably(self, port: int) -> int:
        """This one, if it becomes free within the patience; else the first free one after it."""
        try:
            return self.exactly(port)
        except PortTaken:
            return self.first_free(port + 1)

    def first_free(self, start: int) -> int:
        """The first one from `start` on that nobody has; near the top of the range, from a range of its own."""
        candidates: Iterable[int] = range(start, start + 1000) if start + 1000 < 2**16 else PORTS
        return next(port for port in candidates if self._take(port))

    def _take(self, port: int) -> bool:
        if port in self._given or not self._is_free(port) or not _claim(port):
            return False
        self._given.add(port)
        return True

    def _is_free(self, port: int) -> bool:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run do not count
            try:
                probe.bind((self._host, port))
            except OSError:
                return False
        return True


def _claim(port: int) -> bool:
    """False if another `longshore up`, which is about to listen there, was faster."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0longshore-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True
