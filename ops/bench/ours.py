"""Longshore's side of the figures about jobs: filled through the outbox, drained by a relay and two workers.

A drain starts cold, on a full queue, as it does for every peer. The second one, by processes that are warm, tells what
a job costs in CPU time.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from domain.jobs.outbox import enqueue, new_job
from ops.bench.cost import Others, cpu_seconds
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.handlers import QUEUE, Noop
from ops.bench.sink import Drained, drained

PER_COMMIT = 1_000
#: Of each worker. Handlers that wait for nothing gain nothing from more: threads of Python take turns.
THREADS = 2
#: A drain slower than this is broken, not slow.
SLOWEST_JOBS_PER_S = 100
_WORKERS = ("worker-1", "worker-2")
_SETTLED = "SELECT count(*) FROM jobs WHERE kind = 'bench.noop' AND state = 'succeeded'"


class Drain(msgspec.Struct, frozen=True):
    """One drain: how it ran, how fast every end state was readable, how much of the machine others used meanwhile."""

    ran: Drained
    settled_per_s: float
    others: float


class Cost(msgspec.Struct, frozen=True):
    """CPU microseconds per job of processes that are warm, by process; and how fast they were meanwhile."""

    by_process_us: dict[str, float]
    jobs_per_s: float

    @property
    def total_us(self) -> float:
        return sum(self.by_process_us.values())


def fill(running: Fleet, numbers: Sequence[float]) -> None:
    """A no-op job for each number is durable and due."""
    for start in range(0, len(numbers), PER_COMMIT):
        part = numbers[start : start + PER_COMMIT]
        with running.engine.begin() as tx:
            enqueue(tx, [new_job(Noop(number), tenant_id=running.tenant_id) for number in part])


def start_fleet(running: Fleet) -> None:
    """A relay and two workers, at once."""
    running.start("relay", "relay")
    running.start_workers(QUEUE, WORKER_THREADS=str(THREADS))


def wait_until_idle(running: Fleet) -> None:
    """Everything runs and has nothing to do."""
    running.wait_ready("relay", *_WORKERS)
    running.wait(lambda: not running.ask("SELECT count(*) FROM outbox"), "the queue was not empty", 60.0)


def drain_cold(running: Fleet, jobs: int) -> Drain:
    """The queue is full before anything starts."""
    fill(running, range(jobs))
    start_fleet(running)
    return _drain(running, jobs)


def drain_warm(running: Fleet, jobs: int) -> Cost:
    """The same by processes that have run jobs before. The relay is held while the queue fills."""
    wait_until_idle(running)
    settled_before = running.ask(_SETTLED)
    running.sink.clear()
    with held(running, "relay"):
        fill(running, range(jobs))
        before = cpu_seconds(running.pids)
    drain = _drain(running, jobs, settled_before)
    after = cpu_seconds(running.pids)
    spent = {name: (after[name] - before[name]) / jobs * 1e6 for name in before}
    workers = sum(spent.pop(name) for name in _WORKERS)
    return Cost({**spent, "workers": workers}, drain.ran.jobs_per_s)


@contextmanager
def held(running: Fleet, name: str) -> Iterator[None]:
    """This process stands still meanwhile."""
    running.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        running.signal(name, signal.SIGCONT)


def _drain(running: Fleet, jobs: int, settled_before: int = 0) -> Drain:
    others, limit_s = Others(), 30 + jobs / SLOWEST_JOBS_PER_S
    seen = running.sink.wait_for(jobs, limit_s)
    if seen < jobs:
        raise BenchFailed(f"{seen} of {jobs} jobs ran; the last worker said:\n{running.last_words(_WORKERS[-1])}")
    running.wait(lambda: running.ask(_SETTLED) - settled_before >= jobs, "not every outcome was readable", 30.0)
    settled_at, share = time.monotonic(), others.share()
    time.sleep(0.3)  # a job that runs twice would show
    ran = drained(running.sink.marks(), jobs)
    if ran.lost:
        raise BenchFailed(f"{ran.lost} of {jobs} jobs were lost")
    return Drain(ran, jobs / (settled_at - ran.first), share)


def measure(jobs: int) -> tuple[Drain, Cost]:
    """One repeat on fresh servers."""
    with fleet() as running:
        return drain_cold(running, jobs), drain_warm(running, jobs)
