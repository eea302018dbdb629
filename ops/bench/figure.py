"""What a figure says: rows measured side by side, and the goals they are held against."""

from collections.abc import Callable

import msgspec

from ops.bench.spread import Spread

Value = str | float | Spread | None


class Goal(msgspec.Struct, frozen=True):
    """A promise of DESIGN section 9, with what was measured. `at_most` False = at least."""

    promise: str
    measured: float
    bound: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


class Figure(msgspec.Struct, frozen=True):
    """One figure. Each row maps a heading to its value; `chart` names the heading that is drawn."""

    name: str
    title: str
    rows: list[dict[str, Value]]
    goals: list[Goal]
    notes: list[str] = []
    chart: str | None = None


class Run(msgspec.Struct, frozen=True):
    """How to measure: the same for every figure of a run."""

    jobs: int
    repeats: int
    quick: bool
    peers: bool
    say: Callable[[str], None]
