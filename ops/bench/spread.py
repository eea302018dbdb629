"""What several measurements of one thing say together: median, smallest, largest; and percentiles of many."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The median of the repeats with the range they lay in."""

    median: float
    least: float
    most: float
    values: list[float]


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError when there is no value."""
    if not values:
        raise ValueError("nothing was measured")
    return Spread(median(values), min(values), max(values), list(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values do not exceed. Raises ValueError when empty."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
