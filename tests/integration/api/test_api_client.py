"""A client made from the OpenAPI document by openapi-python-client: its types fit, and an order is placed and polled
with it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from tests.integration.api.served import served
from tests.integration.api.shop import Customer, Shop, worked

#: What a caller writes. Each member that it reads is typed, or mypy would refuse it.
PROGRAM = """
import json
import sys
from uuid import UUID

from longshore_client import AuthenticatedClient
from longshore_client.api.jobs import get_job
from longshore_client.api.orders import get_order, post_order
from longshore_client.models import JobView, NewLine, NewOrder, Problem
from longshore_client.models import SuccessAccepted, SuccessJobView, SuccessOrderDetail

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
order = NewOrder(customer_email="ada@example.com", currency="USD", lines=[NewLine(sku="MUG-1", quantity=2)])

refused = post_order.sync(client=client, body=order, idempotency_key="")
assert isinstance(refused, Problem), refused
code: str = refused.error.code

accepted = post_order.sync(client=client, body=order, idempotency_key="one")
assert isinstance(accepted, SuccessAccepted), accepted


def polled(job_id: UUID) -> JobView:
    for _ in range(100):
        job = get_job.sync(job_id, client=client, prefer="wait=5")
        assert isinstance(job, SuccessJobView), job
        if job.data.done:
            return job.data
    raise TimeoutError


job = polled(accepted.data.job.id)
found = get_order.sync(accepted.data.order.id, client=client)
assert isinstance(found, SuccessOrderDetail), found
total: float = found.data.order.total
timeline: list[str] = [step.job.kind for step in found.data.timeline]
said = {"code": code, "state": job.state, "status": found.data.order.status, "total": total, "timeline": timeline}
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def program(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, beside the client that it imports."""
    folder = tmp_path_factory.mktemp("client")
    document = folder / "openapi.json"
    document.write_bytes(shop.client.get("/api-docs/openapi.json").content)
    wanted = ConfigFile(post_hooks=[], literal_enums=True)
    config = Config.from_sources(
        wanted, MetaType.NONE, document, "utf-8", overwrite=True, output_path=folder / "longshore_client"
    )
    assert [str(problem) for problem in generate(config=config)] == []
    (folder / "longshore_client" / "py.typed").touch()
    (folder / "program.py").write_text(PROGRAM)
    return folder / "program.py"


def _run(program: Path, *command: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(program.parent), "MYPYPATH": str(program.parent)}
    arguments = [sys.executable, *command]
    done = subprocess.run(arguments, cwd=program.parent, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_client_has_a_method_for_every_operation(program: Path, shop: Shop) -> None:
    document: dict[str, Any] = shop.client.get("/api-docs/openapi.json").json()
    made = {path.stem for path in (program.parent / "longshore_client" / "api").rglob("*.py")} - {"__init__"}
    assert made == {one["operationId"] for item in document["paths"].values() for one in item.values()}


def test_its_types_fit_what_a_caller_writes(program: Path) -> None:
    _run(program, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", str(program))


def test_an_order_is_placed_and_polled_with_it(program: Path, shop: Shop, customer: Customer) -> None:
    customer.stocked("MUG-1", price=9.5)
    with served(shop.settings) as server, worked(shop):
        said = json.loads(_run(program, str(program), f"http://127.0.0.1:{server.port}", customer.key))
    assert said == {
        "code": "VALIDATION_ERROR",
        "state": "succeeded",
        "status": "confirmed",
        "total": 19.0,
        "timeline": ["inventory.reserve", "email.order_confirmed"],
    }
