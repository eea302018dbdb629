"""The processes of a development system: the whole fleet, and the miniature outside world that outlives it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ops.supervisor import Child

#: A worker process per row, and the queues it listens on.
WORKERS = {
    "worker-inventory": ["inventory", "default"],
    "worker-email": ["email"],
    "worker-webhooks": ["webhooks"],
    "worker-reports": ["reports"],
}
LOOPS = ("relay", "rescuer", "scheduler")


def measured(workers: int) -> list[str]:
    """The names of the processes that serve metrics on a port of their own."""
    return [*LOOPS, *(name for worker in WORKERS for name in _copies(worker, workers))]


def children(environ: Mapping[str, str], workers: int, metrics: Mapping[str, int]) -> list[Child]:
    """The fleet, with `workers` processes of each kind of worker."""
    shared = {"LOG_FORMAT": "console", **os.environ, **environ, "PYTHONUNBUFFERED": "1"}
    commands = {"web": ["web"], **{name: [name] for name in LOOPS}}
    for worker, queues in WORKERS.items():
        commands |= {name: ["worker", "--queues", ",".join(queues)] for name in _copies(worker, workers)}
    ports = {name: {"METRICS_PORT": str(metrics[name]), "HOST": "127.0.0.1"} for name in metrics}
    return [Child(name, _longshore(*words), {**shared, **ports.get(name, {})}) for name, words in commands.items()]


def outside_world(data: Path, inbox: int, smtp: int, receiver: int) -> list[Child]:
    """Jobs that are still running when the fleet stops find these in place."""
    mails = ["inbox", "--smtp-port", str(smtp), "--http-port", str(inbox), "--data", str(data / "inbox")]
    commands = {"inbox": mails, "receiver": ["receiver", "--port", str(receiver)]}
    return [Child(name, _longshore(*words), os.environ, outlives=True) for name, words in commands.items()]


def _copies(worker: str, count: int) -> list[str]:
    return [worker, *(f"{worker}-{number}" for number in range(2, count + 1))]


def _longshore(*words: str) -> list[str]:
    # -P: an `api` folder where `up` was called must not stand in for ours.
    return [sys.executable, "-P", "-m", "ops.cli", *words]
