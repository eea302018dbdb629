"""The frame of a process: whatever ends it against its will is said; a thread that is lost takes the rest with it."""

import http.client
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from workers.lifecycle import HealthServer

FRAME = """
import base64, threading, time
from domain.database import connect
from ops.settings import Settings
from workers.lifecycle import Lifecycle

key = base64.b64encode(bytes(32)).decode()
settings = Settings(database_url="postgresql://127.0.0.1:1/x", redis_url="redis://x", secret_key=key)

def die():
    raise RuntimeError("can't allocate lock")

with Lifecycle("worker", settings, connect(settings.database_url, process="test"), None, []):
    {}
"""
LOSES_A_THREAD = FRAME.format('threading.Thread(target=die, name="vitals").start(); time.sleep(30)')
DIES = FRAME.format("die()")


def test_a_process_that_lost_a_thread_says_so_and_leaves_at_once() -> None:
    said = ended_with_one(LOSES_A_THREAD)
    assert "process.thread_died" in said
    assert '"thread":"vitals"' in said
    assert "can't allocate lock" in said


def test_a_process_that_dies_of_an_error_says_which_in_its_log() -> None:
    said = ended_with_one(DIES)
    assert "process.died" in said
    assert "can't allocate lock" in said


def ended_with_one(script: str) -> str:
    process = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=25, check=False
    )
    assert process.returncode == 1, process.stderr
    return process.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_health_is_told_at_an_address_of_either_sort(host: str) -> None:
    with HealthServer((host, 0), lambda: {"postgresql": "ok"}) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with closing(http.client.HTTPConnection(host, server.server_address[1], timeout=10)) as caller:
            caller.request("GET", "/readyz")
            assert caller.getresponse().status == 200
