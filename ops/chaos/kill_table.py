"""The checker is checked: every seeded bug, run until a promise that it breaks is found broken, or five seeds are over.

A run that could not be carried out is no kill, and neither is a promise that the mutant has nothing to do with.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ops.chaos.judges import Finding
from ops.chaos.mutants import MUTANTS, Mutant
from ops.chaos.series import Series, end_runs, run_each
from ops.chaos.system import ChaosFailed
from ops.chaos.verdict import Verdict

MOST_SEEDS = 5
_LONGEST_CELL = 140

#: Runs one seed with this mutant.
RunSeed = Callable[[int, Mutant], Verdict | ChaosFailed]


class Kill(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one mutant. `seeds` were run, `void` of them could not be carried out.

    `promise` and `finding` are what caught it in the last of them; both are empty when nothing did.
    """

    mutant: str
    summary: str
    seeds: int
    void: int
    promise: str = ""
    finding: str = ""

    @property
    def is_caught(self) -> bool:
        return bool(self.promise)


def kill_table(seed: int, seconds: float, at_once: int) -> Iterator[Kill]:
    """Every mutant in its turn, so many at once, under the faults that provoke it, with load for so long."""

    def run_seed(number: int, one: Mutant) -> Verdict | ChaosFailed:
        (done,) = run_each(Series([number], 1, seconds, one.faults, one.name))
        return done

    with ThreadPoolExecutor(at_once) as hunters:
        try:
            yield from hunters.map(lambda one: hunt(one, range(seed, seed + MOST_SEEDS), run_seed), MUTANTS.values())
        except BaseException:
            end_runs()
            raise


def hunt(one: Mutant, seeds: Sequence[int], run_seed: RunSeed) -> Kill:
    """Seed after seed until the mutant is caught."""
    void = 0
    for count, seed in enumerate(seeds, start=1):
        done = run_seed(seed, one)
        if not isinstance(done, Verdict):
            void += 1
        elif found := caught_by(one, done.findings):
            return Kill(one.name, one.summary, count, void, found.promise, found.what)
    return Kill(one.name, one.summary, len(seeds), void)


def caught_by(one: Mutant, findings: Sequence[Finding]) -> Finding | None:
    """A finding of the first promise that fell, of those that this mutant breaks."""
    return next((finding for promise in one.breaks for finding in findings if finding.promise == promise), None)


def table(kills: Sequence[Kill]) -> str:
    """As it can stand in a document."""
    rows = [
        f"| `{kill.mutant}` | {kill.summary} | {kill.seeds} | {kill.promise or '**not caught**'} |" for kill in kills
    ]
    return "\n".join(["| mutant | what is wrong | seeds | promise that fell |", "|---|---|---:|---|", *rows])
