"""The moves of a job: what ends stays ended, what waits can run, what runs can end."""

import pytest
from sqlalchemy import CheckConstraint

from domain.jobs.state_machine import MOVES, TERMINAL, WAITING, JobState, may_move
from domain.tables.jobs import jobs

FIRST_STATES = {JobState.SCHEDULED, JobState.QUEUED}


def reachable_from(start: JobState) -> set[JobState]:
    seen, ahead = {start}, [start]
    while ahead:
        fresh = MOVES[ahead.pop()] - seen
        seen |= fresh
        ahead.extend(fresh)
    return seen


def test_every_state_either_waits_runs_or_has_ended() -> None:
    assert WAITING | {JobState.RUNNING} | TERMINAL == set(JobState) == set(MOVES)
    assert not WAITING & TERMINAL
    assert JobState.RUNNING not in WAITING | TERMINAL


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELLED])
def test_nobody_moves_what_succeeded_or_was_cancelled(state: JobState) -> None:
    assert [after for after in JobState if may_move(state, after)] == []


def test_only_a_replay_moves_a_dead_job_and_it_waits_again() -> None:
    assert [after for after in JobState if may_move(JobState.DEAD, after)] == [JobState.QUEUED]


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_waiting_job_can_only_start_or_be_cancelled(state: JobState) -> None:
    assert {after for after in JobState if may_move(state, after)} == {JobState.RUNNING, JobState.CANCELLED}


def test_a_running_job_is_never_scheduled_and_never_claimed_twice() -> None:
    assert not may_move(JobState.RUNNING, JobState.RUNNING)
    assert not may_move(JobState.RUNNING, JobState.SCHEDULED)


@pytest.mark.parametrize("state", sorted(JobState))
def test_every_state_can_be_reached_and_none_is_a_trap_before_the_end(state: JobState) -> None:
    assert any(state in reachable_from(first) for first in FIRST_STATES)
    assert reachable_from(state) & TERMINAL


def test_the_database_knows_exactly_these_states() -> None:
    check = next(c for c in jobs.constraints if isinstance(c, CheckConstraint) and c.name == "ck_jobs_state")
    assert set(str(check.sqltext).split("'")[1::2]) == set(JobState)
