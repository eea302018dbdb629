"""`longshore bench`: the figures that are claimed, measured here and now beside their floors and their peers.

On servers of its own: a running system is not touched. The table is on stdout, progress on stderr.
"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for what only a benchmark needs

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import ExitCode, leave

if TYPE_CHECKING:
    from ops.bench.figure import Figure, Run

DEFAULT_JOBS, QUICK_JOBS = 50_000, 5_000
DEFAULT_REPEATS = 3

Only = Annotated[list[str] | None, typer.Option("--only", help="This figure; may be given again.", metavar="NAME")]
Quick = Annotated[bool, typer.Option("--quick", help="One repeat, fewer jobs, short holds: a look, not a claim.")]
Peers = Annotated[bool, typer.Option("--peers/--no-peers", help="Measure other job systems too.")]
Jobs = Annotated[
    int,
    typer.Option(
        min=100,
        max=1_000_000,
        help=f"No-op jobs per drain, fewer of slow systems. Quick: {QUICK_JOBS}.",
    ),
]
Repeats = Annotated[int, typer.Option(min=1, max=20, help="Of each measurement; the median counts. Quick: 1.")]
Record = Annotated[Path | None, typer.Option("--json", help="Write everything to this file.", dir_okay=False)]
Chart = Annotated[Path | None, typer.Option("--chart", help="Draw the rates into this SVG file.", dir_okay=False)]


def bench(
    only: Only = None,
    quick: Quick = False,
    peers: Peers = True,
    jobs: Jobs = DEFAULT_JOBS,
    repeats: Repeats = DEFAULT_REPEATS,
    record: Record = None,
    chart: Chart = None,
) -> None:
    """Measure what Longshore claims. Exit code 1 when a goal is missed or a figure could not be measured."""
    from ops.bench.figure import Run
    from ops.bench.figures import FIGURES

    names = list(dict.fromkeys(only or FIGURES))
    if unknown := sorted(set(names) - set(FIGURES)):
        raise typer.BadParameter(f"{', '.join(unknown)}: the figures are {', '.join(FIGURES)}", param_hint="--only")
    for path in (record, chart):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is no folder")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with all that was started
    with _progress() as say:
        run = Run(min(jobs, QUICK_JOBS) if quick else jobs, 1 if quick else repeats, quick, peers, say)
        bad = _measure(names, run, record, chart)
    if bad:
        leave(ExitCode.ERROR, f"missed: {', '.join(bad)}")


def _measure(names: list[str], run: "Run", record: Path | None, chart: Path | None) -> list[str]:
    """Answers the figures that miss a goal or could not be measured. Files are written after each figure."""
    from ops.bench.chart import panels, svg
    from ops.bench.figures import measure
    from ops.bench.fleet import BenchFailed
    from ops.bench.machine import in_words, machine
    from ops.bench.record import write_record
    from ops.bench.words import missed
    from ops.cli.figure_page import show
    from ops.telemetry import VERSION, configure_logging

    # What runs inside this process is as quiet as what runs beside it, whose words go to files.
    configure_logging(level="error", log_format="console", process="bench", environment="test", version=VERSION)
    here, figures, failed = machine(), list["Figure"](), dict[str, str]()
    typer.echo("\n".join(in_words(here)))
    for name in names:
        try:
            figures.append(measure(name, run))
            show(figures[-1])
        except BenchFailed as error:
            failed[name] = str(error)
            typer.echo(f"\n{name}: could not be measured: {error}")
        if record is not None:
            write_record(record, here, run, figures, failed)
        if chart is not None:
            chart.write_text(svg(panels(figures), in_words(here)[0]))
    return [*missed(figures), *failed]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being measured, on stderr: one line that changes on a terminal, one line each elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda line: console.print(line, highlight=False, markup=False)
