"""One readable log of several processes: whole lines, each behind the name of the process that wrote it.

It never fails its writer: when the terminal is gone, lines are dropped.
"""

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import IO, TextIO

#: A child that never ends its line still shows, in pieces of this size.
LONGEST_LINE_BYTES = 64 * 1024
#: What is remembered of each, to be shown again when it is the reason for giving up.
LAST_LINES = 5

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class JointLog:
    """Safe for many threads. Colours only on a terminal."""

    def __init__(self, out: TextIO, names: Iterable[str]) -> None:
        self._out, self._lock, self._colourful = out, threading.Lock(), out.isatty()
        self._colour_of = dict(zip(names, cycle(_COLOURS), strict=False))
        self._last: dict[str, deque[str]] = {}
        self._width = max(map(len, self._colour_of), default=0)

    def line(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._colourful:
            prefix = f"\x1b[{self._colour_of.get(name, 1)}m{prefix}\x1b[0m"
        self.page(f"{prefix} {text}")

    def page(self, text: str) -> None:
        """Several lines that stay together, without a name."""
        shown = text if self._colourful else _ESCAPE.sub("", text)
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._out.write(shown + "\n")
            self._out.flush()

    def copy(self, name: str, stream: IO[bytes]) -> None:
        """Every line of the stream, until it ends."""
        last = self._last.setdefault(name, deque(maxlen=LAST_LINES))
        with stream:
            for line in _lines(stream.fileno()):
                text = line.decode(errors="replace").rstrip("\r")
                last.append(text)
                self.line(name, text)

    def last_lines(self, name: str) -> list[str]:
        """What was copied last under this name."""
        return list(self._last.get(name, ()))


def _lines(file: int) -> Iterator[bytes]:
    rest = b""
    while piece := os.read(file, LONGEST_LINE_BYTES):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) >= LONGEST_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest
