"""Lives of jobs on a real PostgreSQL, moved by the product's own bundles and held against a law that knows no SQL.

Here and not beside the unit tests, because what is on trial is SQL under concurrency; the pure parts have theirs in
tests/unit/test_relay_simulation.py. The state machine shrinks what it finds to a few steps; the dice drive hundreds of
jobs at a time. Both look further when told so: see docs/chaos.md.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy.exc import IntegrityError

from tests.integration.builders import emptied_database, module_database  # noqa: F401  # in place of conftest's
from tests.integration.simulation.driver import ACTS, drive
from tests.integration.simulation.mutants import MUTANTS, without
from tests.integration.simulation.sessions import orders_of
from tests.integration.simulation.world import Broken, Engines, Wish, World, engines_of

EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", "10"))

wishes = st.builds(Wish, st.sampled_from(ACTS), st.integers(0, 30), st.integers(1, 30), st.integers(0, 11))
races = st.integers(2, 3).flatmap(
    lambda sessions: st.tuples(
        st.lists(wishes, min_size=sessions, max_size=sessions),
        st.lists(st.booleans(), min_size=sessions, max_size=sessions),
        st.sampled_from(list(orders_of(sessions))),
    )
)


@pytest.fixture
def engines(database_url: str) -> Iterator[Engines]:
    with engines_of(database_url) as engines:
        yield engines


class Lives(RuleBasedStateMachine):
    """Acts one by one, and two or three whose transactions are open at the same time."""

    engines: ClassVar[Engines]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.engines)

    @rule(count=st.integers(1, 12), allowance=st.integers(1, 3), later=st.booleans())
    def enqueue(self, count: int, allowance: int, later: bool) -> None:
        self.world.enqueue(count, allowance=allowance, later=later)

    @precondition(lambda self: self.world.jobs)
    @rule(wish=wishes)
    def act(self, wish: Wish) -> None:
        self.world.do(self.world.act_of(wish))

    @precondition(lambda self: self.world.jobs)
    @rule(race=races)
    def race(self, race: tuple[Sequence[Wish], Sequence[bool], Sequence[int]]) -> None:
        wishes, commits, order = race
        self.world.race([self.world.act_of(wish) for wish in wishes], commits, order)

    def teardown(self) -> None:
        try:
            if self.world.is_sound:
                self.world.wind_up()
        finally:
            self.world.close()


def test_whatever_is_done_to_jobs_in_whatever_order_their_lives_obey_the_law(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lives, "engines", engines, raising=False)
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_hundreds_of_lives_that_cross_obey_the_law(engines: Engines) -> None:
    started, lives, acts = time.monotonic(), 0, 0
    for seed in range(max(2, EXAMPLES // 4)):
        ended, moved = drive(engines, random.Random(seed), jobs=600, rounds=24)
        lives, acts = lives + ended, acts + moved
    took_s = time.monotonic() - started
    print(f"{lives} lives, {lives / took_s:,.0f} a second; acted on {acts / took_s:,.0f} times a second")
    assert lives


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_guard_that_is_gone_is_noticed(engines: Engines, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without(monkeypatch, name)
    with pytest.raises((Broken, IntegrityError)):
        _until_broken(lambda seed: drive(engines, random.Random(seed), jobs=40, rounds=40))


def _until_broken(run: Callable[[int], object]) -> None:
    for seed in range(12):
        run(seed)
