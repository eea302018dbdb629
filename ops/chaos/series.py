"""Many seeds, each in a process of its own, so that none can spoil another; so many at once.

Whoever ends early, by Ctrl-C, SIGTERM or even kill -9, takes every run and all that it started along.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import typer

from ops.chaos.campaign import run
from ops.chaos.catalogue import every_fault
from ops.chaos.system import ChaosFailed
from ops.chaos.verdict import Verdict
from ops.leash import tie_to
from ops.telemetry import VERSION, configure_logging


def run_each(
    seeds: Sequence[int], at_once: int, seconds: float, faults: Sequence[str], mutant: str, logs: Path | None
) -> Iterator[Verdict | ChaosFailed]:
    """As each comes to its end: its verdict, or why it could not be carried out."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, fresh, _begin, (os.getpid(),), max_tasks_per_child=1) as places:
        waiting = [places.submit(_run, seed, seconds, faults, mutant, logs) for seed in seeds]
        try:
            for done in as_completed(waiting):
                try:
                    yield done.result()
                except ChaosFailed as failed:
                    yield failed
        except BaseException:
            places.shutdown(wait=False, cancel_futures=True)
            end_runs()
            raise


def end_runs() -> None:
    """Every run under way comes to its end, with all that it started."""
    for child in multiprocessing.active_children():
        child.terminate()


def _begin(supervisor: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tie_to(supervisor)


def _run(seed: int, seconds: float, faults: Sequence[str], mutant: str, logs: Path | None) -> Verdict:
    known = every_fault()

    def say(line: str) -> None:
        typer.echo(f"seed {seed} {line}", err=True)

    # What the harness itself cannot do while a fault stands is expected.
    configure_logging(level="error", log_format="console", process="chaos", environment="test", version=VERSION)
    say("starts")
    try:
        return run(seed, seconds, [known[name] for name in faults], say, mutant, logs)
    except ChaosFailed as failed:
        raise ChaosFailed(f"seed {seed} proved nothing: {failed}") from failed
