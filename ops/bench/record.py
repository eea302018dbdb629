"""The whole run as one JSON document: where, with what, every value of every repeat, every goal with its verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ops.bench.figure import Figure, Goal, Run
from ops.bench.machine import Machine


def write_record(path: Path, machine: Machine, run: Run, figures: Sequence[Figure], failed: Mapping[str, str]) -> None:
    """The file is replaced whole."""
    fresh = path.with_suffix(f"{path.suffix}.new")
    content = msgspec.json.encode(document(machine, run, figures, failed))
    fresh.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
    fresh.replace(path)


def document(machine: Machine, run: Run, figures: Sequence[Figure], failed: Mapping[str, str]) -> dict[str, Any]:
    """What is written. `failed` has the reason for each figure that could not be measured."""
    return {
        "machine": machine,
        "run": {"jobs": run.jobs, "repeats": run.repeats, "quick": run.quick, "peers": run.peers},
        "figures": [in_full(figure) for figure in figures],
        "failed": failed,
    }


def in_full(figure: Figure) -> dict[str, Any]:
    """Every row, every goal with its verdict."""
    return {
        "name": figure.name,
        "title": figure.title,
        "rows": figure.rows,
        "goals": [_goal(goal) for goal in figure.goals],
        "notes": figure.notes,
    }


def _goal(goal: Goal) -> dict[str, Any]:
    bound = "atMost" if goal.at_most else "atLeast"
    return {"promise": goal.promise, "measured": goal.measured, bound: goal.bound, "met": goal.is_met}
