"""Many seeds, each in a process of its own, so that none can spoil another; so many at once.

Whoever ends early, by Ctrl-C, SIGTERM or even kill -9, takes every run and all that it started along.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import msgspec
import typer

from ops.chaos.campaign import run
from ops.chaos.catalogue import every_fault
from ops.chaos.system import ChaosFailed
from ops.chaos.verdict import Verdict
from ops.leash import tie_to
from ops.telemetry import VERSION, configure_logging


class Series(msgspec.Struct, frozen=True):
    """What to run: these seeds, so many at once, each with load for so many seconds under these faults."""

    seeds: Sequence[int]
    at_once: int
    seconds: float
    faults: Sequence[str]
    mutant: str = ""
    #: Where to keep what was said in runs that broke a promise.
    logs: Path | None = None


def run_each(series: Series) -> Iterator[Verdict | ChaosFailed]:
    """As each comes to its end: its verdict, or why it could not be carried out."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(series.at_once, fresh, _begin, (os.getpid(),), max_tasks_per_child=1) as places:
        seeds = iter(series.seeds)

        def submit(count: int) -> set["Future[Verdict]"]:
            return {places.submit(_run, seed, series) for seed in islice(seeds, count)}

        # Never more than there are places: a pool waits for ever for what it queued when its processes were ended.
        running = submit(series.at_once)
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                running |= submit(len(ended))
                for one in ended:
                    yield _verdict(one)
        except BaseException:
            places.shutdown(wait=False)
            end_runs()
            raise


def _verdict(ended: "Future[Verdict]") -> Verdict | ChaosFailed:
    try:
        return ended.result()
    except ChaosFailed as failed:
        return failed


def end_runs() -> None:
    """Every run under way comes to its end, with all that it started."""
    for child in multiprocessing.active_children():
        child.terminate()


def end_once() -> None:
    """The first SIGINT or SIGTERM ends this process as Ctrl-C does; another one does not disturb that."""

    def end(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _begin(supervisor: int) -> None:
    end_once()
    tie_to(supervisor)


def _run(seed: int, series: Series) -> Verdict:
    known = every_fault()

    def say(line: str) -> None:
        typer.echo(f"seed {seed} {line}", err=True)

    # What the harness itself cannot do while a fault stands is expected.
    configure_logging(level="error", log_format="console", process="chaos", environment="test", version=VERSION)
    say("starts")
    faults = [known[name] for name in series.faults]
    try:
        return run(seed, series.seconds, faults, say, series.mutant, series.logs)
    except ChaosFailed as failed:
        raise ChaosFailed(f"seed {seed} proved nothing: {failed}") from failed
