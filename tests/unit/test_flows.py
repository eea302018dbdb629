"""What the relay remembers: who rang is not rung again too soon, nobody is forgotten, tenants share evenly."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.ids import new_id
from domain.jobs.due import DueRows, FlowKey
from workers.flows import (
    GROWTH,
    LARGEST_WINDOW,
    LONGEST_WAIT_S,
    LOOK_BACK_ALL_EVERY_S,
    SMALLEST_WINDOW,
    Flow,
    Ring,
    Window,
    evenly,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
KEY = FlowKey("email", "email.receipt", new_id())
wants = st.lists(st.integers(0, 400), max_size=12)


# ---- sharing


@given(st.integers(-50, 3_000), wants)
def test_all_the_room_is_given_out_and_nobody_gets_more_than_they_want(room: int, wants: list[int]) -> None:
    given_out = evenly(room, wants)
    assert sum(given_out) == max(0, min(room, sum(wants)))
    assert all(0 <= given <= want for given, want in zip(given_out, wants, strict=True))


@given(st.integers(0, 3_000), wants)
def test_who_gets_less_than_they_want_gets_as_much_as_anybody(room: int, wants: list[int]) -> None:
    given_out = evenly(room, wants)
    most = max(given_out, default=0)
    assert all(most - given <= 1 for given, want in zip(given_out, wants, strict=True) if given < want)


def test_a_single_job_is_not_shared_away_by_a_crowd() -> None:
    assert evenly(16, [1_000, 1, 1_000]) == [8, 1, 7]


# ---- the window

passes = st.lists(
    st.tuples(st.integers(0, 2 * LARGEST_WINDOW), st.floats(0, 2), st.floats(0, 1), st.booleans()), max_size=60
)


@given(passes, st.integers(1, 100), st.booleans())
def test_a_window_stays_within_its_bounds_and_moves_no_further_than_it_says(
    passes: list[tuple[int, float, float, bool]], most: int, together: bool
) -> None:
    window, now = Window(most, together=together), 0.0
    smallest = window.size
    assert smallest >= SMALLEST_WINDOW
    for unclaimed, wait_s, passed_s, is_full in passes:
        now += passed_s
        before, announced = window.size, window.next_size
        grew = window.adapt(unclaimed, wait_s, now)
        assert smallest <= window.size <= min(LARGEST_WINDOW, announced)
        assert window.size in {before, max(smallest, before // 2), min(LARGEST_WINDOW, before * GROWTH)}
        assert grew == (window.size > before)
        assert (most if together else 1) <= window.bundle <= most
        if is_full:
            window.note_full()


def grown(most: int = 100) -> Window:
    window = Window(most)
    for _ in range(20):
        window.note_full()
        window.adapt(0, 0.0, 0.0)
    return window


def test_a_kind_that_keeps_up_gets_a_larger_window_and_larger_bundles() -> None:
    assert (Window().size, Window().bundle) == (SMALLEST_WINDOW, 1)
    assert (grown().size, grown().bundle, grown(most=1).bundle) == (LARGEST_WINDOW, 100, 1)


def test_jobs_that_run_at_once_travel_in_bundles_as_large_as_can_be_and_several_of_them_fit() -> None:
    window = Window(100, together=True)
    assert window.bundle == 100
    assert window.size >= 2 * window.bundle


def test_a_window_that_was_never_full_or_is_not_emptied_does_not_grow() -> None:
    idle, slow = Window(), Window()
    slow.note_full()
    for _ in range(10):
        idle.adapt(0, 0.0, 0.0)
        slow.adapt(SMALLEST_WINDOW, 0.0, 0.0)
    assert idle.size == slow.size == SMALLEST_WINDOW


def test_a_window_in_which_jobs_wait_long_shrinks_but_not_twice_for_the_same_wait() -> None:
    window = grown()
    sizes = []
    for tick in range(8):
        window.adapt(0, LONGEST_WAIT_S * 2, tick * LONGEST_WAIT_S * 0.6)
        sizes.append(window.size)
    assert sizes[0] == LARGEST_WINDOW // 2
    assert all(after in {before, before // 2} for before, after in pairwise(sizes))
    assert len(set(sizes)) == 4


# ---- rings


def test_a_bell_that_nobody_heard_rings_again_after_7_seconds_then_ever_later_up_to_60() -> None:
    for times, visibility_s in enumerate((7, 14, 28, 56, 60, 60, 60), start=1):
        ring = Ring(100.0, times)
        assert [ring.is_over(100.0 + visibility_s - 0.01), ring.is_over(100.0 + visibility_s)] == [False, True]


def test_a_bell_that_lies_nowhere_any_more_rings_again_after_1_second_then_ever_later_up_to_60() -> None:
    for times, visibility_s in enumerate((1, 2, 4, 8, 16, 32, 60, 60, 60), start=1):
        ring = Ring(100.0, times)
        after = (100.0 + visibility_s - 0.01, 100.0 + visibility_s)
        assert [ring.is_over(now, list_is_empty=True) for now in after] == [False, True]


def rows_of(*ids: str, alone: tuple[str, ...] = (), oldest: datetime | None = NOW) -> DueRows:
    return DueRows(list(ids), list(alone), oldest if ids or alone else None, NOW + timedelta(minutes=1))


def test_the_first_of_so_many_are_those_that_travel_alone_and_then_the_others_in_order() -> None:
    waiting = Flow(KEY, 0.0).read(rows_of("a", "b", "c", alone=("x", "y")), 0.0)
    assert len(waiting) == 5
    for count, (alone, together) in {0: ([], []), 1: (["x"], []), 3: (["x", "y"], ["a"])}.items():
        first = waiting.first(count)
        assert (first.alone, first.together, len(first)) == (alone, together, count)


def test_the_longest_wait_is_that_of_the_first_that_rang_and_is_not_claimed() -> None:
    flow = Flow(KEY, 0.0)
    assert flow.longest_wait_s(5.0) == 0.0
    flow.read(rows_of("a", "b"), 10.0)
    flow.note_rung(["a"], 10.0)
    flow.note_rung(["b"], 12.0)
    assert flow.longest_wait_s(13.0) == 3.0
    flow.read(rows_of("b"), 13.0)
    assert flow.longest_wait_s(13.0) == 1.0


def test_a_scan_starts_shortly_before_the_oldest_row_and_now_and_then_at_the_very_first() -> None:
    flow = Flow(KEY, 0.0)
    assert flow.start_of_scan(0.0) < NOW - timedelta(days=10_000)
    flow.read(rows_of("a"), 0.0)
    assert NOW - timedelta(seconds=5) < flow.start_of_scan(1.0) < NOW
    flow.read(rows_of(), 1.0)
    assert NOW < flow.start_of_scan(2.0) < NOW + timedelta(minutes=1)
    assert flow.start_of_scan(LOOK_BACK_ALL_EVERY_S + 1) < NOW - timedelta(days=10_000)
    assert flow.start_of_scan(LOOK_BACK_ALL_EVERY_S + 2) > NOW


def test_what_more_urgent_rows_push_out_of_sight_is_rung_as_before_once_it_is_known_to_stand() -> None:
    # Given three that rang, and a head that was cut, in which none of them is
    flow = Flow(KEY, 0.0)
    flow.read(rows_of("a", "b", "c"), 0.0)
    flow.note_rung(["a", "b"], 1.0)
    flow.note_rung(["c"], 0.0)
    flow.read(DueRows(["urgent"], [], NOW, NOW, is_cut=True), 7.5)
    assert flow.rung == {}
    # When two of them are found to stand, one of which may ring again
    flow.note_standing({"b", "c"}, 7.5)
    assert flow.rung == {"b": Ring(1.0, 1)}
    # But what is missing from a head that was not cut is gone
    flow.read(rows_of("urgent"), 7.6)
    assert flow.unseen == {}


def test_a_job_that_was_rung_and_handed_back_between_two_passes_rings_at_once() -> None:
    flow = Flow(KEY, 0.0)
    flow.note_rung(flow.read(rows_of("a", "b"), 0.0).together, 0.0)
    # When a worker has claimed one of them and handed it back: it travels alone now
    waiting = flow.read(rows_of("b", alone=("a",)), 0.1)
    assert (waiting.together, waiting.alone) == ([], ["a"])
    # Then it rings once, and is waited for like any other
    assert flow.note_rung(["a"], 0.1, alone=True) == 0
    assert len(flow.read(rows_of("b", alone=("a",)), 0.2)) == 0
    assert set(flow.rung) == {"a", "b"}


class Rings(RuleBasedStateMachine):
    """A table of rows, a relay that reads it whole and rings some, workers that claim some, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.flow = Flow(KEY, self.now)
        self.table: dict[str, bool] = {}
        self.rings: dict[str, list[float]] = {}
        self.made = 0

    @rule(count=st.integers(1, 4), alone=st.booleans())
    def enqueue(self, count: int, alone: bool) -> None:
        for _ in range(count):
            self.made += 1
            self.table[f"job {self.made}"] = alone

    @rule(at=st.integers(0, 20))
    def claim(self, at: int) -> None:
        if self.table:
            del self.table[list(self.table)[at % len(self.table)]]

    @rule(seconds=st.floats(0.1, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(room=st.integers(0, 5))
    def ring(self, room: int) -> None:
        together = [job_id for job_id, alone in self.table.items() if not alone]
        alone = [job_id for job_id, alone in self.table.items() if alone]
        waiting = self.flow.read(rows_of(*together, alone=tuple(alone)), self.now)
        # Nobody is forgotten: each row is rung, or may ring now; never both
        may_ring = [*waiting.together, *waiting.alone]
        assert sorted([*may_ring, *self.flow.rung]) == sorted(self.table)
        for job_id in self.table:
            rung = self.rings.get(job_id)
            is_waiting = rung is not None and self.now - rung[-1] < min(60, 7 << min(len(rung) - 1, 4))
            assert (job_id in self.flow.rung) == is_waiting
        first = waiting.first(room)
        chosen = [*first.alone, *first.together]
        again = self.flow.note_rung(first.together, self.now) + self.flow.note_rung(first.alone, self.now, alone=True)
        assert again == sum(job_id in self.rings for job_id in chosen)
        for job_id in chosen:
            self.rings.setdefault(job_id, []).append(self.now)

    @invariant()
    def every_ring_that_is_remembered_happened(self) -> None:
        for job_id, ring in self.flow.rung.items():
            assert (ring.at, ring.times) == (self.rings[job_id][-1], len(self.rings[job_id]))


TestRings = pytest.mark.filterwarnings("error")(Rings.TestCase)
