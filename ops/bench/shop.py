"""A shop on a fleet under measurement: keys, products with stock, an API on a port, callers that post orders."""

import http.client
import subprocess
import sys

import msgspec

from domain.catalogue.products import create_product
from domain.tenants.keys import create_key
from ops.bench.fleet import READY_WITHIN_S, BenchFailed, Fleet
from ops.bench.floors import API_KEY, TENANT_ID
from ops.bench.load import Answered, Plan
from ops.dev.caller import Caller
from ops.dev.ports import Ports

CALLERS = 64
PLENTY = 100_000_000
_FIRST_PORT = 18_100
_ANSWERS_WITHIN_S = 60.0


class Shop:
    """One tenant's. Its API, the process of this name, listens on `port` once `open` was called."""

    def __init__(self, running: Fleet, name: str = "web") -> None:
        self._running, self.name = running, name
        self.port = Ports("127.0.0.1").first_free(_FIRST_PORT)
        with running.engine.begin() as tx:
            self.api_key = create_key(tx, running.tenant_id, "bench", ["api", "admin"])
        self._knows = {API_KEY: self.api_key, TENANT_ID: str(running.tenant_id), "PORT": str(self.port)}

    @property
    def caller(self) -> Caller:
        return Caller(f"http://127.0.0.1:{self.port}", {"X-API-Key": self.api_key})

    def open(self) -> None:
        """The API as it is, ready."""
        self._running.start(self.name, "web", **self._knows)
        self._wait_ready()

    def open_floor(self, floor: str) -> None:
        """A floor of the API instead, ready."""
        self._running.start(self.name, floor, module="ops.bench.floors", **self._knows)
        self._wait_ready()

    def close(self) -> None:
        self._running.stop(self.name)

    def products(self, count: int) -> list[str]:
        """So many SKUs, none of which will ever be short."""
        skus = [f"BENCH-{number}" for number in range(count)]
        with self._running.engine.begin() as tx:
            for sku in skus:
                given = {"sku": sku, "name": "Thing", "price": 950, "currency": "USD", "units": PLENTY}
                create_product(tx, self._running.tenant_id, **given)  # type: ignore[arg-type]
        return skus

    def post(
        self,
        skus: list[str],
        seconds: float,
        warm_up_s: float = 1.0,
        most: int = 10_000_000,
        callers: int = CALLERS,
    ) -> Answered:
        """What callers that never pause are answered. Raises BenchFailed unless every answer is a 202."""
        plan = Plan(self.port, self.api_key, skus, callers, warm_up_s, seconds, most)
        command = [sys.executable, "-P", "-m", "ops.bench.load", msgspec.json.encode(plan).decode()]
        within_s = seconds + warm_up_s + _ANSWERS_WITHIN_S
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
        if done.returncode:
            raise BenchFailed(f"the callers failed: {done.stderr[-500:]}\n{self._running.last_words(self.name)}")
        answered = msgspec.json.decode(done.stdout, type=Answered, strict=False)
        if set(answered.statuses) != {202}:
            raise BenchFailed(f"not every order was accepted: {answered.statuses}")
        return answered

    def _wait_ready(self) -> None:
        words = self._running.last_words(self.name)
        self._running.wait(self._answers, f"the API was not ready: {words}", READY_WITHIN_S)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
