"""A seed tells which faults strike when."""

from hypothesis import given
from hypothesis import strategies as st

from ops.chaos.plan import MOST_AT_ONCE, Choice, plan_of

CHOICES = [
    Choice("kill", "worker", (0.0, 0.5)),
    Choice("freeze", "worker", (3.0, 9.0)),
    Choice("empty", "valkey", (0.0, 0.5)),
    Choice("fill", "valkey", (2.0, 4.0)),
    Choice("crash", "postgresql", (0.2, 3.0)),
    Choice("cut", "links", (0.5, 3.0)),
    Choice("hang", "outside", (3.0, 6.0)),
]
TOUCHES = {choice.name: choice.touches for choice in CHOICES}


@given(st.integers(0, 10_000), st.floats(20, 300))
def test_faults_are_healed_in_time_and_none_touches_what_another_does(seed: int, seconds: float) -> None:
    planned = plan_of(seed, seconds, CHOICES)
    assert planned
    assert all(one.at_s > 0 and one.ends_s <= seconds + 0.02 for one in planned)
    for number, one in enumerate(planned):
        beside = [other for other in planned[:number] if other.ends_s > one.at_s + 0.02]
        assert TOUCHES[one.name] not in {TOUCHES[other.name] for other in beside}
        assert len(beside) < MOST_AT_ONCE


@given(st.integers(0, 10_000))
def test_the_same_seed_gives_the_same_plan_and_a_long_one_has_every_fault(seed: int) -> None:
    planned = plan_of(seed, 240.0, CHOICES)
    assert planned == plan_of(seed, 240.0, CHOICES)
    assert planned != plan_of(seed + 1, 240.0, CHOICES)
    assert {one.name for one in planned} == set(TOUCHES)


def test_without_faults_nothing_strikes() -> None:
    assert plan_of(1, 60.0, []) == []
