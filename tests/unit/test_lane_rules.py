"""What deliveries tell about a dependency: failing ones are parked, slow ones get less room, disabled ones stay so."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.lanes.lane_rules import (
    FAILURES_TO_PARK,
    FIRST_PARK_S,
    FULL_ROOM,
    LONGEST_PARK_S,
    SLOW_MS,
    SLOW_ROOM,
    Lane,
    Observation,
    observed,
    park_s,
    room_of,
)

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)

lanes = st.builds(
    Lane,
    st.sampled_from(["healthy", "slow", "parked"]),
    st.none() | st.just(LATER),
    st.integers(0, 100),
    st.integers(0, 60_000),
)
sights = st.builds(
    Observation,
    st.sampled_from([True, False, None]),
    st.none() | st.integers(0, 60_000),
    st.none() | st.floats(0, 600),
    st.booleans(),
)


def after(lane: Lane, *seen: Observation) -> Lane:
    for sight in seen:
        lane = observed(lane, sight, NOW)
    return lane


@given(st.lists(sights, max_size=10))
def test_a_disabled_lane_stays_disabled_whatever_is_seen(seen: list[Observation]) -> None:
    disabled = Lane("disabled")
    assert after(disabled, *seen) == disabled


@given(lanes)
def test_a_job_that_tells_nothing_changes_nothing(lane: Lane) -> None:
    assert after(lane, Observation(None, latency_ms=9)) == lane


@given(lanes, sights)
def test_a_lane_has_a_time_until_it_is_parked_only_while_it_is_parked(lane: Lane, seen: Observation) -> None:
    moved = after(lane, seen)
    assert moved == lane or moved.state == "parked" or moved.parked_until is None


@given(lanes, st.integers(1, SLOW_MS // 2))
def test_one_success_ends_a_row_of_failures_and_opens_a_lane_whose_time_is_up(lane: Lane, latency_ms: int) -> None:
    moved = observed(lane, Observation(True, latency_ms), LATER)
    assert (moved.failures, moved.parked_until) == (0, None)
    assert moved.state in {"healthy", "slow"}


@given(st.floats(1, 21_600), st.lists(st.booleans(), max_size=40))
def test_what_was_under_way_when_a_pause_was_asked_for_does_not_end_it(asked_s: float, ends: list[bool]) -> None:
    ended = [Observation(ok, 10) for ok in ends]
    moved = after(Lane(), Observation(False, 10, park_s=asked_s), *ended, Observation(True, 10, park_s=asked_s / 2))
    assert (moved.state, moved.parked_until) == ("parked", NOW + timedelta(seconds=asked_s))


def test_a_lane_is_parked_by_the_fifth_failure_in_a_row_and_not_before() -> None:
    failure = Observation(False, 10)
    four = after(Lane(), *[failure] * (FAILURES_TO_PARK - 1))
    assert four.state == "healthy"
    assert after(four, failure) == Lane("parked", NOW + timedelta(seconds=FIRST_PARK_S), FAILURES_TO_PARK, 10)
    assert after(four, Observation(True, 10), failure).state == "healthy"


def test_a_dependency_that_is_down_is_parked_at_once() -> None:
    assert after(Lane(), Observation(False, down=True)).state == "parked"


@given(lanes, st.floats(0, 600))
def test_a_dependency_that_asks_for_a_pause_gets_it_and_a_longer_one_stands(lane: Lane, asked_s: float) -> None:
    moved = after(lane, Observation(True, 10, park_s=asked_s))
    asked = NOW + timedelta(seconds=asked_s)
    assert (moved.state, moved.parked_until) == ("parked", max(asked, lane.parked_until or asked))


def test_a_late_failure_does_not_open_a_parked_lane() -> None:
    parked = Lane("parked", LATER, failures=0)
    assert after(parked, Observation(False, 10)) == Lane("parked", LATER, failures=0, latency_ms=10)


@given(st.integers(FAILURES_TO_PARK, 500), st.booleans())
def test_jobs_that_were_under_way_when_the_lane_was_parked_do_not_park_it_for_longer(jobs: int, down: bool) -> None:
    parked = after(Lane(), *[Observation(False, 10, down=down)] * jobs)
    assert parked.parked_until == NOW + timedelta(seconds=FIRST_PARK_S)


def test_each_probe_that_fails_parks_the_lane_for_twice_as_long() -> None:
    failure, probed_at, waits = Observation(False, 10), NOW, []
    lane = Lane(failures=FAILURES_TO_PARK - 1)
    for _ in range(8):
        lane = observed(lane, failure, probed_at)
        assert lane.parked_until is not None
        waits.append((lane.parked_until - probed_at).total_seconds())
        probed_at = lane.parked_until
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


@given(st.integers(0, 10_000))
def test_parking_doubles_from_its_first_to_its_longest(failures: int) -> None:
    assert FIRST_PARK_S <= park_s(failures) <= LONGEST_PARK_S
    assert park_s(failures + 1) in {park_s(failures), 2 * park_s(failures), LONGEST_PARK_S}
    assert park_s(FAILURES_TO_PARK) == FIRST_PARK_S
    assert park_s(FAILURES_TO_PARK + 1) == 2 * FIRST_PARK_S


def test_a_lane_is_slow_by_its_mean_and_not_by_one_slow_answer() -> None:
    quick = after(Lane(), Observation(True, 20))
    assert after(quick, Observation(True, 3 * SLOW_MS)).state == "healthy"
    assert after(quick, *[Observation(True, 3 * SLOW_MS)] * 10).state == "slow"


def test_a_slow_lane_recovers() -> None:
    assert after(Lane("slow", latency_ms=5_000), *[Observation(True, 20)] * 10).state == "healthy"


@pytest.mark.parametrize(("state", "room"), [("slow", SLOW_ROOM), ("healthy", FULL_ROOM), ("parked", FULL_ROOM)])
def test_only_a_slow_lane_has_less_room(state: str, room: int) -> None:
    assert room_of(state) == room
    assert room_of("healthy", 500) == 500
