"""`longshore chaos`: faults by a seed against a whole system of its own, and the verdict of a checker."""
# ruff: noqa: PLC0415  # lazy: nothing of the harness is loaded by other commands

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import ExitCode

if TYPE_CHECKING:
    from ops.chaos.faults import Fault

Seed = Annotated[int, typer.Option(min=0, help="Of the first run; each further run has the next one.")]
Runs = Annotated[int, typer.Option(min=1, help="How many seeds, one after the other.")]
Minutes = Annotated[float, typer.Option(min=0.1, max=60.0, help="Of load and faults, each run.")]
Faults = Annotated[str, typer.Option(help="Names, separated by commas. Default: all.", show_default=False)]
Mutant = Annotated[str, typer.Option(help="A seeded bug that the checker must catch.", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the verdicts here.", show_default=False)]
Show = Annotated[bool, typer.Option("--list", help="Name the faults and the mutants, and run nothing.")]


def chaos(
    seed: Seed = 1,
    runs: Runs = 1,
    minutes: Minutes = 1.0,
    faults: Faults = "",
    mutant: Mutant = "",
    json_file: JsonFile = None,
    show: Show = False,
) -> None:
    """Break a system of its own in every way that has a name, and check that nothing was lost.

    Exit code 0 when every promise held, 1 when one was broken or a run proved nothing, 2 for a wrong option.
    """
    import msgspec

    from ops.chaos.campaign import run
    from ops.chaos.report import catalogue, summary
    from ops.chaos.system import ChaosFailed

    if show:
        typer.echo(catalogue())
        return
    chosen, verdicts, is_void = _chosen(faults, mutant), [], False
    for number in range(seed, seed + runs):
        typer.echo(f"seed {number}", err=True)
        try:
            verdict = run(number, minutes * 60, chosen, lambda line: typer.echo(f"  {line}", err=True), mutant)
        except ChaosFailed as failed:
            typer.echo(f"seed {number} proved nothing: {failed}", err=True)
            is_void = True
            continue
        verdicts.append(verdict)
        typer.echo(summary(verdict))
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(verdicts), indent=1))
    if is_void or any(verdict.findings for verdict in verdicts):
        raise typer.Exit(ExitCode.ERROR)


def _chosen(names: str, mutant: str) -> "list[Fault]":
    from ops.chaos.catalogue import every_fault
    from ops.chaos.mutants import MUTANTS

    known = every_fault()
    wanted = [word.strip() for word in names.split(",") if word.strip()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(f"no fault is called {', '.join(unknown)}; see --list", param_hint="--faults")
    if mutant and mutant not in MUTANTS:
        raise typer.BadParameter(f"no mutant is called {mutant}; see --list", param_hint="--mutant")
    return [known[name] for name in wanted]
