"""`longshore chaos`: faults by a seed against a whole system of its own, and the verdict of a checker."""
# ruff: noqa: PLC0415  # lazy: nothing of the harness is loaded by other commands

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import ExitCode, leave

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.chaos.series import Series
    from ops.chaos.verdict import Verdict

Seed = Annotated[int, typer.Option(min=0, help="Of the first run; each further run has the next one.")]
Runs = Annotated[int, typer.Option(min=1, help="How many seeds, one after the other.")]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.1, max=60.0, help="Of load and faults, each run: 1. Of --recovery: 8.", show_default=False),
]
Faults = Annotated[
    str,
    typer.Option(
        help="Names, separated by commas. Default: as many of all as there is time for, or those of the mutant.",
        show_default=False,
    ),
]
Mutant = Annotated[
    str, typer.Option(help="A seeded bug that the checker must catch; all = the kill table.", show_default=False)
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write verdicts, the kill table or recovery times here.", show_default=False),
]
Chart = Annotated[Path | None, typer.Option(help="Draw faults and throughput into this SVG file.", show_default=False)]
Logs = Annotated[
    Path | None,
    typer.Option(help="Keep evidence of runs that broke a promise or were void in seed-N here.", show_default=False),
]
AtOnce = Annotated[int, typer.Option(min=1, max=16, help="So many runs beside each other.")]
FIRST_SEED = 1
#: In place of the name of a mutant: the kill table.
EVERY_MUTANT = "all"

Recovery = Annotated[bool, typer.Option("--recovery", help="Measure how soon all goes on after each death instead.")]
Show = Annotated[bool, typer.Option("--list", help="Name faults, mutants and promises, and run nothing.")]


def chaos(  # noqa: PLR0913, PLR0917  # the options of a command
    seed: Seed = FIRST_SEED,
    runs: Runs = 1,
    minutes: Minutes = None,
    faults: Faults = "",
    mutant: Mutant = "",
    at_once: AtOnce = 1,
    json_file: JsonFile = None,
    chart: Chart = None,
    logs: Logs = None,
    recovery: Recovery = False,
    show: Show = False,
) -> None:
    """Break a system of its own in every way that has a name, and check that nothing was lost.

    Exit code 0 when every promise held, 1 when one was broken, or a run was void (could not be carried out) or proved
    nothing, 2 for a wrong option. With --mutant: 0 when it was caught. With --recovery: 0 when every goal was met.
    """
    from ops.chaos.report import catalogue
    from ops.chaos.series import Series, end_once

    if show:
        typer.echo(catalogue())
        return
    way = "--recovery" if recovery else "--mutant all" if mutant == EVERY_MUTANT else ""
    others = {"--faults": faults, "--runs": runs > 1, "--chart": chart, "--logs": logs}
    of_seeds = {"--mutant": mutant, "--seed": seed != FIRST_SEED, "--at-once": at_once > 1}
    _check_options(way, others | (of_seeds if recovery else {}))
    _check_places(json_file, chart, logs)
    chosen = [] if way else _chosen(faults, mutant)
    end_once()
    if recovery:
        _recover(minutes, json_file)
    elif way:
        _hunt(seed, (minutes or 1.0) * 60, at_once, json_file)
    else:
        series = Series(range(seed, seed + runs), at_once, (minutes or 1.0) * 60, chosen, mutant, logs)
        _attack(series, json_file, chart)


def _attack(series: "Series", json_file: Path | None, chart: Path | None) -> None:
    from ops.chaos.kill_table import caught_by
    from ops.chaos.mutants import MUTANTS
    from ops.chaos.report import summary, totals
    from ops.chaos.series import run_each
    from ops.chaos.verdict import Verdict, tally_of

    verdicts, void = list[Verdict](), 0
    for done in run_each(series):
        if isinstance(done, Verdict):
            verdicts.append(done)
            typer.echo(summary(done))
            _record(sorted(verdicts, key=lambda verdict: verdict.seed), json_file, chart)
        else:
            void += 1
            typer.echo(str(done), err=True)
    tally = tally_of(verdicts, void)
    if len(series.seeds) > 1:
        typer.echo(totals(tally))
    if series.mutant:
        is_good = any(caught_by(MUTANTS[series.mutant], verdict.findings) for verdict in verdicts)
        typer.echo(f"{series.mutant} was {'caught' if is_good else 'not caught'}")
    else:
        is_good = not tally.findings and not any(verdict.proved_nothing for verdict in verdicts)
    if void or not is_good:
        raise typer.Exit(ExitCode.ERROR)


def _check_options(of: str, given: "Mapping[str, object]") -> None:
    """What does not go with this way of running is refused, and not ignored."""
    if of and (strange := [name for name, value in given.items() if value]):
        raise typer.BadParameter(f"does not go with {of}", param_hint=", ".join(strange))


def _check_places(*paths: Path | None) -> None:
    """Before a run that takes minutes."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is no folder")


def _hunt(seed: int, seconds: float, at_once: int, json_file: Path | None) -> None:
    """Exit code 0 only when every mutant was caught."""
    import msgspec

    from ops.chaos.kill_table import Kill, kill_table, table

    kills = list[Kill]()
    for kill in kill_table(seed, seconds, at_once):
        kills.append(kill)
        typer.echo(f"{kill.mutant}: {kill.promise or 'not caught'} after {kill.seeds} seeds", err=True)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(kills), indent=1))
    typer.echo(table(kills))
    if not all(kill.is_caught for kill in kills):
        raise typer.Exit(ExitCode.ERROR)


def _record(verdicts: "list[Verdict]", json_file: Path | None, chart: Path | None) -> None:
    """After each run, so that a series that is interrupted has not been for nothing."""
    import msgspec

    from ops.chaos.timeline import svg

    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(verdicts), indent=1))
    if chart is not None:
        chart.write_text(svg(verdicts))


def _recover(minutes: float | None, json_file: Path | None) -> None:
    import msgspec

    from ops.bench.machine import in_words, machine
    from ops.bench.record import in_full
    from ops.bench.words import missed
    from ops.chaos.recovery.course import recover
    from ops.chaos.recovery.trial import WHOLE_MINUTES
    from ops.chaos.system import ChaosFailed
    from ops.cli.figure_page import show
    from ops.telemetry import VERSION, configure_logging

    configure_logging(level="error", log_format="console", process="chaos", environment="test", version=VERSION)
    here = machine()
    typer.echo(in_words(here)[0])
    try:
        figure = recover(minutes or WHOLE_MINUTES, lambda line: typer.echo(f"  {line}", err=True))
    except ChaosFailed as failed:
        leave(ExitCode.ERROR, f"nothing was proved: {failed}")
    show(figure)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": here, **in_full(figure)}), indent=1))
    if missed([figure]):
        raise typer.Exit(ExitCode.ERROR)


def _chosen(names: str, mutant: str) -> list[str]:
    from ops.chaos.catalogue import every_fault
    from ops.chaos.mutants import MUTANTS

    known = every_fault()
    if mutant and mutant not in MUTANTS:
        raise typer.BadParameter(f"no mutant is called {mutant}; see --list", param_hint="--mutant")
    default = list(MUTANTS[mutant].faults) if mutant else list(known)
    wanted = [word.strip() for word in names.split(",") if word.strip()] or default
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(f"no fault is called {', '.join(unknown)}; see --list", param_hint="--faults")
    return wanted
