"""One measured figure: its table, then each goal met or missed."""

import typer

from ops.bench.figure import Figure
from ops.bench.words import cell, headings, verdict
from ops.cli.output import Output


def show(figure: Figure) -> None:
    """On stdout."""
    typer.echo(f"\n{figure.name}: {figure.title}\n")
    columns = headings(figure)
    rows = [{name: cell(row.get(name)) for name in columns} for row in figure.rows]
    Output(as_json=False).table(rows, {name: name for name in columns})
    for line in ["", *map(verdict, figure.goals), *figure.notes]:
        typer.echo(line)
