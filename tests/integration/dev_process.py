"""A `longshore` command as a process of its own, for as long as a test wants it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def longshore(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Told to stop at the end, which must go well."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}  # no matter where the tests are run from
    with subprocess.Popen([sys.executable, "-m", "ops.cli", *words], env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()
            code = process.wait(20)
    assert code == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
