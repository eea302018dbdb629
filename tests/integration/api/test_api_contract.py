"""The served API against its own OpenAPI document: schemathesis, every operation, every phase, every check.

As two tenants, neither of whom may see what is the other's; as one who may only read; and as nobody. `make contract`
runs the same with many more examples (CONTRACT_EXAMPLES).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import api.routes.auth
from domain.tenants.keys import create_key
from tests.integration.api.served import Served, served
from tests.integration.api.shop import Customer, Shop, worked

ROOT = Path(__file__).parents[3]
CONFIG = Path(__file__).parent / "contract" / "schemathesis.toml"
SHORT = 5
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", SHORT))
IS_LONG = EXAMPLES > SHORT
_PHASES = "examples,coverage,fuzzing,stateful" if IS_LONG else "examples,fuzzing,stateful"
#: Of those who are refused nearly everything: 401 and 403 look alike for any request.
_MOSTLY_REFUSED = "examples,coverage,fuzzing" if IS_LONG else "examples"
#: What `make contract` promises to have tried.
AT_LEAST = 20_000 if IS_LONG else 250


@pytest.fixture(scope="module")
def tenants(shop: Shop) -> list[Customer]:
    """Two, each with one of everything, among it what the examples of the document name."""
    found = [shop.customer(), shop.customer()]
    for tenant in found:
        tenant.stocked("MUG-1", price=9.5, stock=1_000_000)
        tenant.subscribed("order.confirmed")
        tenant.buried()
        tenant.ordered("MUG-1")
    return found


@pytest.fixture(scope="module")
def server(shop: Shop, tenants: list[Customer]) -> Iterator[Served]:
    """After the tenants have what they shall have: from here on every job that waits is done."""
    with pytest.MonkeyPatch.context() as patch, served(shop.settings) as running, worked(shop):
        patch.setattr(api.routes.auth, "ANSWER_AFTER_S", 0.0)  # whether an address is known is not the question here
        yield running


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    """How many cases there were, by who sent them."""
    return {}


def test_the_api_keeps_its_contract_with_two_tenants(
    server: Served, tenants: list[Customer], counted: dict[str, int], tmp_path: Path
) -> None:
    keys = [{"X-API-Key": tenant.key} for tenant in tenants]
    counted["tenants"] = _run(server, tmp_path, keys, _PHASES, EXAMPLES)


@pytest.mark.skipif(not IS_LONG, reason="make contract")
def test_the_api_keeps_its_contract_with_one_who_may_only_read(
    server: Served, tenants: list[Customer], counted: dict[str, int], tmp_path: Path
) -> None:
    with tenants[0].shop.engine.begin() as tx:
        key = create_key(tx, tenants[0].tenant_id, "reader", ["orders:read", "jobs:read"])
    counted["reader"] = _run(server, tmp_path, [{"X-API-Key": key}] * 2, _MOSTLY_REFUSED, EXAMPLES // 8)


def test_the_api_keeps_its_contract_with_nobody(server: Served, counted: dict[str, int], tmp_path: Path) -> None:
    nobody = [{"User-Agent": "nobody"}] * 2
    counted["nobody"] = _run(server, tmp_path, nobody, _MOSTLY_REFUSED, EXAMPLES // 8)


def test_that_was_enough(counted: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(counted.values())} cases, 0 failures: {counted}\n")
    assert len(counted) == (3 if IS_LONG else 2)
    assert sum(counted.values()) >= AT_LEAST


def _run(server: Served, folder: Path, callers: list[dict[str, str]], phases: str, examples: int) -> int:
    """How many cases there were. Nothing of them failed."""
    users = [
        {"name": name, "fixedHeaders": [{"name": key, "value": value} for key, value in headers.items()]}
        for name, headers in zip(("one", "two"), callers, strict=True)
    ]
    (folder / "keys.json").write_text(json.dumps({"auth": users}))
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run", f"--phases={phases}"]
    command += ["--checks=all", f"--max-examples={max(examples, 1)}", "--report=json", "--report-json-path=report.json"]
    command += [] if IS_LONG else ["--generation-deterministic"]
    command += ["--no-color", f"http://127.0.0.1:{server.port}/api-docs/openapi.json"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.integration.api.contract.hooks"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    found: int = report["test_cases"]["generated"]
    return found
