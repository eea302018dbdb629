"""Importing and creating the API asks nobody for anything: no socket, no connection, with every server down."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys

touched = []
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.__new__")
sys.addaudithook(lambda event, _: touched.append(event) if event in NETWORK else None)

import base64

from api.app import create_app
from ops.settings import Settings

app = create_app(
    Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
        secret_key=base64.b64encode(bytes(32)).decode(),
    )
)
assert app.routes
print(touched)

"""


def test_importing_and_creating_the_app_opens_no_socket() -> None:
    assert _run(SCRIPT) == "[]"


def test_the_watch_would_have_seen_one() -> None:
    assert _run(SCRIPT.replace("print(touched)", "import socket; socket.socket().close(); print(touched)")) != "[]"


def _run(script: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
