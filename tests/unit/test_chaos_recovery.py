"""From what a recovery trial measured to its table and its verdict."""

import pytest

from ops.bench.words import cell, missed
from ops.chaos.recovery.measured import Measured, Wait, figure, waits_between
from ops.chaos.system import ChaosFailed

KILLS = Measured("kill", 4, [7.0] * 98 + [9.0, 99.0], goal_s=10.0, percent=99.0)


def test_a_goal_is_for_its_percentile() -> None:
    assert missed([figure([KILLS])]) == []
    late = Measured("kill", 4, [7.0] * 98 + [10.5, 10.5], goal_s=10.0, percent=99.0)
    assert missed([figure([late])]) == ["recovery"]


def test_without_a_percentile_the_goal_is_for_the_longest() -> None:
    flush = Measured("flush", 3, [1.0, 2.0, 61.0], goal_s=60.0)
    (goal,) = figure([flush]).goals
    assert (goal.measured, goal.is_met) == (61.0, False)


def test_the_table_has_what_was_struck_and_measured_and_the_goal() -> None:
    found = figure([KILLS, Measured("quiet", 0, [0.5, 0.25])], ["a note"])
    first, second = found.rows
    assert [cell(value) for value in first.values()] == ["kill", "4", "100", "7", "9", "99", "p99 <= 10 s"]
    assert [cell(value) for value in second.values()] == ["quiet", "0", "2", "0.25", "0.50", "0.50", "-"]
    assert len(found.goals) == 1
    assert found.notes == ["a note"]


def test_what_was_not_measured_is_not_met() -> None:
    with pytest.raises(ChaosFailed, match="nothing was measured of: flush"):
        figure([KILLS, Measured("flush", 3, [], goal_s=60.0)])


def test_the_waits_around_a_kill_are_those_of_the_jobs_posted_then() -> None:
    waits = [Wait(9.0, 9.5), Wait(10.0, 10.25), Wait(15.75, 17.0), Wait(16.0, 16.5)]
    assert waits_between(waits, 10.0, 16.0) == [0.25, 1.25]
