"""What a part measured, and the table and the goals that follow from it. Pure."""

from collections.abc import Sequence

import msgspec

from ops.bench.figure import Figure, Goal, Value
from ops.bench.spread import percentile
from ops.chaos.system import ChaosFailed


class Measured(msgspec.Struct, frozen=True):
    """Seconds of one kind, from so many strikes. The goal is for this percentile; None = there is none."""

    what: str
    strikes: int
    seconds: list[float]
    goal_s: float | None = None
    percent: float = 100.0


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """Of one job, in seconds since 1970: its commit, and its first start."""

    posted: float
    started: float


def waits_between(waits: Sequence[Wait], begin: float, end: float) -> list[float]:
    """Seconds from commit to start of the jobs posted in this period."""
    return [one.started - one.posted for one in waits if begin <= one.posted < end]


def figure(parts: Sequence[Measured], notes: Sequence[str] = ()) -> Figure:
    """Raises ChaosFailed when a part has measured nothing: it proves nothing."""
    if empty := [part.what for part in parts if not part.seconds]:
        raise ChaosFailed(f"nothing was measured of: {'; '.join(empty)}")
    goals = [_goal(part, part.goal_s) for part in parts if part.goal_s is not None]
    return Figure("recovery", "Seconds until everything goes on", [_row(part) for part in parts], goals, list(notes))


def _row(part: Measured) -> dict[str, Value]:
    return {
        "what": part.what,
        "strikes": float(part.strikes),
        "measured": float(len(part.seconds)),
        "p50 s": percentile(part.seconds, 50),
        "p99 s": percentile(part.seconds, 99),
        "most s": max(part.seconds),
        "goal": f"{_word(part)} <= {part.goal_s:g} s" if part.goal_s is not None else None,
    }


def _goal(part: Measured, bound: float) -> Goal:
    return Goal(f"{part.what}, {_word(part)} in s", percentile(part.seconds, part.percent), bound, at_most=True)


def _word(part: Measured) -> str:
    return "most" if part.percent == 100 else f"p{part.percent:g}"
