"""An environment of its own for each peer: exactly its pinned requirements, hashes checked, kept in a cache folder.

Nothing of a peer is ever installed beside Longshore.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ops.bench.peer_catalogue import PEERS

INSTALL_WITHIN_S = 600


class NotInstalled(Exception):
    """This peer cannot be measured here; the message says why, in one line."""


def cache() -> Path:
    """$XDG_CACHE_HOME/longshore/bench, or the same under ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "longshore" / "bench"


def programs_of(app: str, say: Callable[[str], None]) -> Path:
    """The folder of the peer's programs; installed now unless that was done before. Raises NotInstalled."""
    pins = PEERS / app / "requirements.txt"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache() / app
    marker = folder / ".installed"
    if not marker.exists() or marker.read_text() != wanted:
        say(f"installing {app} {version_of(app)} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)], app)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--no-deps", "--require-hashes", "--requirement", str(pins)], app)
        marker.write_text(wanted)
    return folder / "bin"


def version_of(app: str) -> str:
    """What its requirements pin."""
    found = re.search(rf"^{re.escape(app)}==(\S+)", (PEERS / app / "requirements.txt").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"the requirements of {app} do not pin it")
    return found[1]


def _run(command: list[str], app: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{app}: {type(error).__name__}") from error
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise NotInstalled(f"{app}: {' '.join(last)[:200] or f'exit code {done.returncode}'}")
