"""SIGTERM: a process stops taking, lets what runs end or hands it back, and leaves with exit code 0."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.jobs.kind import KINDS, JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.retry_policy import Backoff
from domain.tenants.keys import ensure_tenant
from tests.end_to_end.running import Running, wait_until

ROOT = Path(__file__).parents[2]

#: A worker of its own with a kind that sleeps, told when to start and how long to allow for stopping.
WORKER = textwrap.dedent(
    """
    import sys, time
    from domain.jobs.kind import JobArgs
    from ops.settings import load_settings
    from workers.registry import handles

    class Nap(JobArgs, kind="test.nap", queue="naps", timeout=120.0):
        seconds: float

    @handles(Nap)
    def nap(args, ctx):
        time.sleep(args.seconds)

    from workers.worker import run_worker
    run_worker(load_settings(), ["naps"])
    """
)


@pytest.fixture
def nap_kind() -> Iterator[type[JobArgs]]:
    class Nap(JobArgs, kind="test.nap", queue="naps", retry=Backoff(max_attempts=3), timeout=120.0):
        seconds: float

    yield Nap
    del KINDS["test.nap"]


def start_worker(system: Running, allowed_s: int) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, **system.env, "SHUTDOWN_TIMEOUT_SECONDS": str(allowed_s), "METRICS_PORT": "0"}
    environ["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environ, stdout=subprocess.DEVNULL)


def nap(system: Running, kind: type[JobArgs], seconds: float) -> str:
    with system.engine.begin() as tx:
        job = new_job(kind(seconds), tenant_id=ensure_tenant(tx, "default"))
        enqueue(tx, [job])
    return str(job.id)


def state(system: Running, job: str) -> str:
    return str(system.query("SELECT state FROM jobs WHERE id = CAST(:id AS uuid)", id=job)[0][0])


@pytest.mark.timeout(120)
def test_a_short_job_ends_and_a_long_one_is_handed_back_without_an_attempt(
    system: Running, nap_kind: type[JobArgs]
) -> None:
    # Given a worker with a job that will end in time and one that will not
    worker = start_worker(system, allowed_s=9)
    short, long = nap(system, nap_kind, 2.0), nap(system, nap_kind, 60.0)
    wait_until(lambda: state(system, short) == state(system, long) == "running")
    # When it is told to stop
    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    code = worker.wait(30)
    # Then it leaves cleanly within its time; the short job is done, the long one waits and has its attempt back
    assert code == 0
    assert time.monotonic() - started < 9 + 5
    assert state(system, short) == "succeeded"
    row = system.query("SELECT state, attempt, claim FROM jobs WHERE id = CAST(:id AS uuid)", id=long)[0]
    assert (row.state, row.attempt, row.claim) == ("queued", 0, 1)
    outcomes = system.query("SELECT outcome FROM attempts WHERE job_id = CAST(:id AS uuid)", id=long)
    assert [outcome for (outcome,) in outcomes] == ["handed_back"]


@pytest.mark.timeout(120)
def test_the_api_finishes_what_is_in_flight_and_leaves_with_zero(system: Running) -> None:
    # Given the API with orders coming in
    sku = system.product(400)
    before = system.pids()["web"]
    # When it is told to stop in the middle; the supervisor starts it again
    accepted = system.orders(sku, 60, lambda: os.kill(system.pids()["web"], signal.SIGTERM))
    # Then every order was accepted, by it or by its successor, and each only once
    wait_until(lambda: system.pids()["web"] != before)
    assert len(set(accepted)) == 60
    log = (system.data.parent / "up.log").read_text()
    assert "shutdown_complete" in log
