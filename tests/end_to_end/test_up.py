"""`longshore up` as a person meets it: it starts again on the same data, says plainly what is wrong, stops cleanly."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.running import Running, running, wait_until


def up(*flags: str) -> "subprocess.CompletedProcess[str]":
    """A second `longshore up`, expected to give up by itself."""
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    command = [sys.executable, "-m", "ops.cli", "up", *flags]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def is_gone(pid: int) -> bool:
    """No such process, or only its entry, which nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_orders_keys_and_jobs_survive_a_restart(tmp_path: Path) -> None:
    # Given a system with an order
    with running(tmp_path / "data") as first:
        order = first.order(first.product(5))
        keys, pids = first.env["LONGSHORE_API_KEY"], first.pids()
    # Then nothing of it is left running
    wait_until(lambda: all(is_gone(pid) for pid in pids.values()))
    # When it is started again on the same data, the order is there under the same key
    with running(tmp_path / "data") as second:
        assert second.env["LONGSHORE_API_KEY"] == keys
        wait_until(lambda: second.call("GET", f"/api/v1/orders/{order}")[1]["data"]["order"]["status"] == "confirmed")


def test_a_second_start_on_the_same_data_says_so_and_starts_nothing(system: Running) -> None:
    before = system.pids()
    second = up("--data", str(system.data), "--port", "18999")
    assert second.returncode == 1
    assert "Traceback" not in second.stdout + second.stderr
    assert str(system.process.pid) in second.stdout + second.stderr
    assert system.pids() == before


def test_a_taken_port_is_named_and_nothing_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused = up("--data", str(tmp_path / "data"), "--port", str(port))
    assert refused.returncode == 1
    assert str(port) in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_process_refuses_to_start_on_bad_settings_and_names_the_variable(system: Running) -> None:
    for words in (["web"], ["relay"], ["worker", "--queues", "email"], ["queues"]):
        environ = {**os.environ, **system.env, "DATABASE_URL": "nonsense"}
        command = [sys.executable, "-m", "ops.cli", *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, words
        assert "DATABASE_URL" in done.stderr
        assert "Traceback" not in done.stderr
