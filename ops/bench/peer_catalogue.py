"""The job systems measured beside Longshore: how each is started, what it keeps, and what its numbers mean.

Each is set up as its guide says, with two worker processes and room for eight jobs in each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

PEERS = Path(__file__).with_name("peers")

_RESULTS = {"BENCH_RESULTS": "1"}
_IN_MEMORY = "Valkey's memory: lost with the server"
_ON_DISK = "PostgreSQL, synchronous_commit=on"
_NOTHING, _RESULT = "nothing", "result, in memory"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run one system. `app` names its folder and its environment; `version_of` the package that is shown.

    `kept` is what remains of a job that is done; `ended` is where that is counted: a query, or a pattern of keys, None
    where nothing remains.
    """

    name: str
    app: str
    store: Literal["postgresql", "valkey"]
    setting: str
    kept: str
    durability: str
    processes: int
    worker: list[str]
    prepare: list[str] = []
    environ: Mapping[str, str] = {}
    ended: str | None = None
    most_jobs: int = 1_000_000
    is_transactional: bool = False


def _dramatiq(name: str, environ: Mapping[str, str], ended: str | None) -> Peer:
    return Peer(
        name=name,
        app="dramatiq",
        store="valkey",
        setting="2 processes x 8 threads",
        kept=_RESULT if ended else _NOTHING,
        durability=_IN_MEMORY,
        processes=1,
        worker=["dramatiq", "app", "-p", "2", "-t", "8", "--skip-logging"],
        environ=environ,
        ended=ended,
        most_jobs=20_000,
    )


def _celery(name: str, environ: Mapping[str, str], ended: str | None) -> Peer:
    quiet = ["-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return Peer(
        name=name,
        app="celery",
        store="valkey",
        setting="2 processes x 8 threads, prefetch x64",
        kept=_RESULT if ended else _NOTHING,
        durability=_IN_MEMORY,
        processes=2,
        worker=["celery", "-A", "app", "worker", "-P", "threads", "-c", "8", "-n", "worker-{number}@bench", *quiet],
        environ=environ,
        ended=ended,
        most_jobs=10_000,
    )


def _taskiq(name: str, environ: Mapping[str, str], ended: str | None) -> Peer:
    return Peer(
        name=name,
        app="taskiq",
        store="valkey",
        setting="2 processes x 8 tasks, uvloop, list broker",
        kept=_RESULT if ended else _NOTHING,
        durability=f"{_IN_MEMORY}; a killed worker loses its jobs",
        processes=1,
        worker=[
            *("taskiq", "worker", "app:broker", "-w", "2", "--max-async-tasks", "8"),
            *("--log-level", "ERROR", "--no-parse"),
        ],
        environ=environ,
        ended=ended,
        most_jobs=20_000,
    )


def _pgqueuer(name: str, batch: int) -> Peer:
    return Peer(
        name=name,
        app="pgqueuer",
        store="postgresql",
        setting=f"2 processes, {batch} jobs per fetch, uvloop",
        kept="line of a log, fsync",
        durability=_ON_DISK,
        processes=2,
        prepare=["pgq", "--pg-dsn", "{database_url}", "install"],
        worker=["python", "app.py", "worker"],
        environ={"BENCH_BATCH": str(batch)},
        ended="SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'",
        is_transactional=True,
    )


_PROCRASTINATE = Peer(
    name="procrastinate",
    app="procrastinate",
    store="postgresql",
    setting="2 processes x 8 jobs",
    kept="state, fsync",
    durability=_ON_DISK,
    processes=2,
    prepare=["procrastinate", "--app", "app.app", "schema", "--apply"],
    worker=["procrastinate", "--app", "app.app", "worker", "-q", "bench", "-c", "8"],
    ended="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    most_jobs=3_000,
    is_transactional=True,
)

#: Those that the goals name: what we build on, and the fastest known.
FLOOR, FASTEST = "dramatiq with results", "pgqueuer in batches"

CATALOGUE = (
    _dramatiq("dramatiq", {}, None),
    _dramatiq(FLOOR, _RESULTS, "dramatiq-results:*"),
    _celery("celery threads", {}, None),
    _celery("celery threads with results", _RESULTS, "celery-task-meta-*"),
    _taskiq("taskiq", {}, None),
    _taskiq("taskiq with results", _RESULTS, "result:*"),
    _PROCRASTINATE,
    _pgqueuer("pgqueuer", 10),
    _pgqueuer(FASTEST, 100),
)
