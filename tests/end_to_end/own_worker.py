"""Processes of a test's own beside the running system's: any of the fleet, or a worker with own jobs (own_kinds.py)."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.tenants.tenants import ensure_tenant
from tests.end_to_end.running import Running, wait_until
from tests.end_to_end.wrong_clock import python
from tests.integration.builders import declarations

with declarations():  # so that they are unknown to all other tests
    from tests.end_to_end.own_kinds import AsyncStep, Deadly, Effect, Hang, Letter, Nap, Overrun, Step, Stumble

__all__ = ["AsyncStep", "Deadly", "Effect", "Hang", "Letter", "Nap", "Overrun", "Step", "Stumble"]

ROOT = Path(__file__).parents[2]


class OwnProcess:
    """One process of the fleet."""

    def __init__(self, system: Running, folder: Path, command: Sequence[str], **settings: str) -> None:
        self._log = folder / f"process-{time.monotonic_ns()}.log"
        own = {"METRICS_PORT": "0", "LOG_FORMAT": "json"}
        environ = {**os.environ, **system.env, **own, **settings, "PYTHONPATH": str(ROOT)}
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT)

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def told_to_stop(self) -> int:
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextmanager
def own_process(system: Running, folder: Path, command: Sequence[str], **settings: str) -> Iterator[OwnProcess]:
    """Ended at the latest when the test ends."""
    started = OwnProcess(system, folder, command, **settings)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait(10)


@contextmanager
def own_worker(
    system: Running, folder: Path, allowed_s: int = 10, clock_off_s: int = 0, **settings: str
) -> Iterator[OwnProcess]:
    """One worker process on the tests' own queue, ended at the latest when the test ends."""
    command = python("tests.end_to_end.own_kinds", clock_off_s=clock_off_s)
    settings = {"SHUTDOWN_TIMEOUT_SECONDS": str(allowed_s), **settings}
    with own_process(system, folder, command, **settings) as worker:
        yield worker


def enqueued(system: Running, *payloads: JobArgs, due_in_s: float = 0.0) -> list[UUID]:
    """Jobs that are due now, or then."""
    with system.engine.begin() as tx:
        tenant_id = ensure_tenant(tx, "default")
        due_at = datetime.now(UTC) + timedelta(seconds=due_in_s) if due_in_s else None
        jobs = [new_job(args, tenant_id=tenant_id, due_at=due_at) for args in payloads]
        enqueue(tx, jobs)
    return [job.id for job in jobs]


def job(system: Running, job_id: UUID) -> Any:
    return system.query("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]


def state(system: Running, job_id: UUID) -> str:
    return str(job(system, job_id).state)


def all_end(system: Running, ids: Sequence[UUID], as_state: str, within_s: float = 30.0) -> None:
    """Each of these jobs ends, and like this."""
    left = "SELECT count(*) FROM jobs WHERE id = ANY(:ids) AND state <> :state"
    wait_until(lambda: system.query(left, ids=list(ids), state=as_state)[0][0] == 0, within_s)


def each_ran_once(system: Running, effects: Path, ids: Sequence[UUID]) -> None:
    """Each left its line in this file once, and had one claim and no crash."""
    assert sorted(effects.read_text().split()) == sorted(map(str, ids))
    assert {(job(system, one).claim, job(system, one).crashes) for one in ids} == {(1, 0)}
