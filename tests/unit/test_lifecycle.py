"""The frame of a process: one that has lost a thread leaves, instead of taking work that it may never end."""

import subprocess
import sys

LOSES_A_THREAD = """
import base64, threading, time
from ops.settings import Settings
from workers.lifecycle import Lifecycle

key = base64.b64encode(bytes(32)).decode()
settings = Settings(database_url="postgresql://x", redis_url="redis://x", secret_key=key)

def die():
    raise RuntimeError("can't allocate lock")

with Lifecycle("worker", settings, None, None, []):
    threading.Thread(target=die, name="vitals").start()
    time.sleep(30)
"""


def test_a_process_that_lost_a_thread_says_so_and_leaves_at_once() -> None:
    process = subprocess.run(
        [sys.executable, "-P", "-c", LOSES_A_THREAD], capture_output=True, text=True, timeout=25, check=False
    )
    assert process.returncode == 1, process.stderr
    assert '"thread":"vitals"' in process.stdout
    assert "process.thread_died" in process.stdout
    assert "can't allocate lock" in process.stdout
