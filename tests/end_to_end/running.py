"""A whole Longshore started by `longshore up`, and a client that behaves as an API caller should: retry by key."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, text

from domain.database import connect
from domain.invariants import INVARIANTS, violations_of
from ops.settings import read_env_file

START_S = 60.0
#: A caller gives up on an order after this; then the test fails, because nothing healed.
PATIENCE_S = 60.0


class Running:
    """A started system: its settings, its processes, its database."""

    def __init__(self, data: Path, process: "subprocess.Popen[bytes]") -> None:
        self.data, self.process = data, process
        self.env = read_env_file(data / "dev.env")
        self.engine: Engine = connect(self.env["DATABASE_URL"], process="test", pool_size=2)

    def kill(self, name: str) -> None:
        """SIGKILL to the process of this name, wherever it is in its work."""
        os.kill(self.pids()[name], signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.data / "pids.json").read_text())
        return found

    def call(
        self, method: str, path: str, body: object = None, *, key: str = "", admin: bool = False
    ) -> tuple[int, Any]:
        """One request. Raises OSError or HTTPException when the connection does not survive it."""
        host = self.env["LONGSHORE_URL"].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=5)
        headers = {"X-API-Key": self.env["LONGSHORE_ADMIN_KEY" if admin else "LONGSHORE_API_KEY"]}
        headers |= {"Idempotency-Key": key} if key else {}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
            return response.status, json.loads(data) if data else None
        finally:
            connection.close()

    def product(self, units: int) -> str:
        """A fresh SKU with so many units."""
        sku = f"SKU-{uuid4().hex[:12]}"
        status, body = self.call(
            "POST", "/api/v1/products", {"sku": sku, "name": "Thing", "price": 9.5, "stock": units}, admin=True
        )
        assert status == 201, body
        return sku

    def order(self, sku: str, quantity: int = 1) -> str:
        """An accepted order's id. Unknown outcomes are resolved with the same key, as the 503 tells callers to."""
        key, until = uuid4().hex, time.monotonic() + PATIENCE_S
        body = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": sku, "quantity": quantity}]}
        while time.monotonic() < until:
            try:
                status, answer = self.call("POST", "/api/v1/orders", body, key=key)
            except (OSError, http.client.HTTPException):
                status, answer = 0, None
            if status == 202:
                return str(answer["data"]["order"]["id"])
            assert status in {0, 500, 503}, answer
            time.sleep(0.1)
        raise AssertionError("the order was never accepted")

    def orders(self, sku: str, count: int, meanwhile: Callable[[], None], *, callers: int = 8) -> list[str]:
        """So many orders from several callers at once; `meanwhile` runs when about a third of them are in."""
        with ThreadPoolExecutor(callers) as pool:
            pending = [pool.submit(self.order, sku) for _ in range(count)]
            wait_until(lambda: sum(order.done() for order in pending) >= count // 3, PATIENCE_S)
            meanwhile()
            return [order.result() for order in pending]

    def query(self, statement: str, **bounds: object) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), bounds).all()


@contextmanager
def running(data: Path, *flags: str) -> Iterator[Running]:
    """`longshore up` on this data folder, ready; stopped as Ctrl-C stops it. The exit code must be 0."""
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    log = (data.parent / "up.log").open("ab")
    command = [sys.executable, "-m", "ops.cli", "up", "--data", str(data), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ)
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(data), START_S)
        assert process.poll() is None, (data.parent / "up.log").read_text()[-2000:]
        system = Running(data, process)
        yield system
        system.engine.dispose()
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        log.close()
    assert code == 0, (data.parent / "up.log").read_text()[-3000:]


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Returns when the condition holds, fails when the time is up. Outages while asking are what tests cause."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.05)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def all_promises_hold(engine: Engine) -> None:
    """What `longshore doctor` checks: the ledger sums to the stock, nothing is taken twice, and more."""
    with engine.connect() as connection:
        broken = {invariant.name: violations_of(connection, invariant) for invariant in INVARIANTS}
    assert {name: rows for name, rows in broken.items() if rows} == {}


def _is_ready(data: Path) -> bool:
    env = read_env_file(data / "dev.env")
    if "LONGSHORE_URL" not in env:
        return False
    connection = http.client.HTTPConnection(env["LONGSHORE_URL"].removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/health")
        return bool(json.loads(connection.getresponse().read())["status"] == "healthy")
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
