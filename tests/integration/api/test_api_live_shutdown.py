"""SIGTERM with callers who wait: everybody is answered at once, nobody holds up the leaving."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec

from ops.settings import Settings
from tests.end_to_end.running import wait_until
from tests.integration.api.served import Served
from tests.integration.api.shop import V1, Customer, Shop

ROOT = Path(__file__).parents[3]
ALLOWED_S = 20
STREAMS, POLLS = 50, 10


@contextmanager
def web(settings: Settings, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The API as a process of its own."""
    given = {name.upper(): str(value) for name, value in msgspec.structs.asdict(settings).items()}
    environ = {**os.environ, **given, "WEBHOOK_ALLOW_HTTP": "false", "PORT": str(port), "PYTHONPATH": str(ROOT)}
    environ["SHUTDOWN_TIMEOUT_SECONDS"] = str(ALLOWED_S)
    command = [sys.executable, "-m", "ops.cli", "web"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_open_streams_and_long_polls_end_at_once(shop: Shop, customer: Customer) -> None:
    # Given the API with callers who wait for a job that does not move
    job_id, port = customer.reported()[1], free_port()
    with web(shop.settings, port) as process, ThreadPoolExecutor(POLLS) as pool:
        server = Served(port)
        wait_until(lambda: _is_up(server))
        streams = [server.follow(job_id, customer.key) for _ in range(STREAMS)]
        assert {stream.job()[1] for stream in streams} == {"queued"}
        path = f"{V1}/jobs/{job_id}"
        polls = [pool.submit(server.read, path, X_API_Key=customer.key, Prefer="wait=30") for _ in range(POLLS)]
        wait_until(lambda: _waiting(server) == STREAMS + POLLS)
        # When it is told to stop
        started_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(2 * ALLOWED_S)
        # Then it leaves cleanly, long before it would be made to, and everybody has a whole answer
        assert code == 0
        assert time.monotonic() - started_at < ALLOWED_S / 2
        assert [poll.result(5)[0] for poll in polls] == [200] * POLLS
        for stream in streams:
            assert stream.next() in ({"": "nothing new"}, None)
            assert stream.next() is None


def _is_up(server: Served) -> bool:
    try:
        return server.read("/livez")[0] == 200
    except OSError:
        return False


def _waiting(server: Served) -> int:
    connection, response = server.get("/metrics")
    lines = response.read().decode().splitlines()
    connection.close()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("longshore_live_waiters "))


def test_with_all_who_may_wait_there_is_room_for_others(shop: Shop, customer: Customer) -> None:
    """Granian counts connections; a stream is one."""
    jobs: list[tuple[UUID, str]] = []
    for tenant in [shop.customer() for _ in range(3)]:
        jobs += [(tenant.reported()[1], tenant.key)] * 120
    port = free_port()
    with web(shop.settings, port) as process:
        server = Served(port)
        wait_until(lambda: _is_up(server))
        streams = [server.follow(job_id, key) for job_id, key in jobs]
        assert {stream.job()[1] for stream in streams} == {"queued"}
        assert server.read(f"{V1}/jobs", X_API_Key=customer.key)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * ALLOWED_S) == 0
        for stream in streams:
            stream.hang_up()
