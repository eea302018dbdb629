"""Figures in words: the cells of the table and the lines of the verdict. Pure."""

from collections.abc import Sequence

from ops.bench.figure import Figure, Goal, Value
from ops.bench.spread import Spread


def headings(figure: Figure) -> list[str]:
    """Every heading that some row has, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in figure.rows for name in row))


def cell(value: Value) -> str:
    """A spread as median and range, a number with three digits that count, nothing as a dash."""
    match value:
        case None:
            return "-"
        case Spread(median=median, least=least, most=most) if least != most:
            return f"{number(median)} ({number(least)}-{number(most)})"
        case Spread(median=median):
            return number(median)
        case str():
            return value
        case _:
            return number(value)


def number(value: float) -> str:
    """1234.5 is 1,234; 12.34 is 12.3; 1.234 is 1.23."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def verdict(goal: Goal) -> str:
    """The goal on one line: met or missed, what was measured, what was promised."""
    word = "met   " if goal.is_met else "MISSED"
    bound = f"{'at most' if goal.at_most else 'at least'} {number(goal.bound)}"
    return f"{word}  {goal.promise}: {number(goal.measured)} ({bound})"


def missed(figures: Sequence[Figure]) -> list[str]:
    """The names of the figures that miss a goal."""
    return [figure.name for figure in figures if not all(goal.is_met for goal in figure.goals)]
