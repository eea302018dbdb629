"""What the end of an attempt means for its job: for every job, ending, clock and throw of the dice."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.job_kinds import WEBHOOK_TIMETABLE
from domain.jobs.retry_policy import (
    MAX_CRASHES,
    Backoff,
    Cancelled,
    Crashed,
    DeadlineExceeded,
    Decision,
    DependencyDown,
    Ending,
    Errored,
    PermanentFailure,
    RetryLater,
    RetryPolicy,
    Snooze,
    Snoozed,
    Succeeded,
    Timetable,
    decide,
    ending_of,
)
from domain.jobs.state_machine import TERMINAL, WAITING, JobState, may_move

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)
FAILED = Errored("OSError", "the disk is full")

attempts = st.integers(1, 100_000)
seconds = st.floats(0, 1e6, allow_nan=False)
jitters = st.floats(0, 1, exclude_max=True)
backoffs = st.builds(Backoff, st.integers(1, 40), base=st.floats(0.001, 1e3), cap=st.floats(0.001, 1e6))
timetables = st.builds(
    Timetable, st.lists(st.floats(0.1, 1e6), min_size=1, max_size=15).map(tuple), stretch=st.floats(0, 1)
)
policies: st.SearchStrategy[RetryPolicy] = backoffs | timetables
errors = st.builds(
    Errored,
    st.just("OSError"),
    st.text(),
    permanent=st.booleans(),
    retry_after_s=st.none() | seconds,
)
snoozes = st.builds(Snoozed, seconds, st.text(), handed_back=st.booleans())
crashes = st.builds(Crashed, st.integers(1, 10))
endings: st.SearchStrategy[Ending] = st.builds(Succeeded, st.none()) | errors | snoozes | crashes | st.just(Cancelled())
deadlines = st.floats(-1e6, 2e6, allow_nan=False).map(lambda seconds: NOW + timedelta(seconds=seconds))


def decided(ending: Ending, attempt: int = 1, max_attempts: int = 5, jitter: float = 0.5) -> Decision:
    return decide(attempt, max_attempts, ending, Backoff(), NOW, jitter)


@given(backoffs, attempts, jitters)
def test_a_backoff_waits_between_nothing_and_its_longest_for_every_attempt(
    policy: Backoff, attempt: int, jitter: float
) -> None:
    assert 0 <= policy.delay_s(attempt, jitter) <= policy.longest_s(attempt) <= policy.cap


@given(backoffs, attempts)
def test_the_longest_wait_doubles_until_the_cap_and_never_shrinks(policy: Backoff, attempt: int) -> None:
    now, next_ = policy.longest_s(attempt), policy.longest_s(attempt + 1)
    assert next_ == pytest.approx(min(policy.cap, 2 * now))
    assert policy.longest_s(1) == min(policy.cap, policy.base)


@given(backoffs, attempts, jitters)
def test_jitter_is_full(policy: Backoff, attempt: int, jitter: float) -> None:
    """The wait is spread evenly over all of 0 to the longest: retries of a herd never come as a herd."""
    assert policy.delay_s(attempt, 0.0) == 0
    assert policy.delay_s(attempt, jitter) == pytest.approx(policy.longest_s(attempt) * jitter)


@given(timetables, attempts, jitters)
def test_a_timetable_is_never_shortened_and_stretched_by_no_more_than_it_says(
    policy: Timetable, attempt: int, jitter: float
) -> None:
    planned = policy.waits[min(attempt, len(policy.waits)) - 1]
    assert planned <= policy.delay_s(attempt, jitter) <= planned * (1 + policy.stretch)


def test_webhooks_are_tried_twelve_times_over_a_long_weekend() -> None:
    waits = [WEBHOOK_TIMETABLE.delay_s(attempt, jitter=0.0) for attempt in range(1, WEBHOOK_TIMETABLE.max_attempts)]
    assert WEBHOOK_TIMETABLE.max_attempts == 12
    assert timedelta(seconds=sum(waits)) >= timedelta(hours=75)
    assert waits == sorted(waits)


@given(st.integers(1, 100), st.integers(1, 100), endings, policies, jitters)
def test_every_decision_is_a_move_that_a_running_job_may_make(
    attempt: int, max_attempts: int, ending: Ending, policy: RetryPolicy, jitter: float
) -> None:
    decision = decide(attempt, max_attempts, ending, policy, NOW, jitter)
    assert may_move(JobState.RUNNING, decision.state)


@given(st.integers(1, 100), st.integers(1, 100), endings, policies, jitters)
def test_a_job_is_due_again_exactly_when_it_shall_run_again_and_never_in_the_past(
    attempt: int, max_attempts: int, ending: Ending, policy: RetryPolicy, jitter: float
) -> None:
    decision = decide(attempt, max_attempts, ending, policy, NOW, jitter)
    assert (decision.due_at is not None) == (decision.state in WAITING)
    assert decision.due_at is None or decision.due_at >= NOW
    assert (decision.cause is not None) == (decision.state is JobState.DEAD)


@given(st.integers(1, 5), st.lists(endings, min_size=1, max_size=30), policies, jitters)
def test_attempts_never_exceed_the_allowance_whatever_happens(
    max_attempts: int, life: list[Ending], policy: RetryPolicy, jitter: float
) -> None:
    attempt = crashes = 0
    for ending in life:
        attempt += 1
        crashes += isinstance(ending, Crashed)
        assert attempt <= max_attempts
        told = Crashed(crashes) if isinstance(ending, Crashed) else ending
        decision = decide(attempt, max_attempts, told, policy, NOW, jitter)
        attempt -= decision.attempt_returned
        if decision.state in TERMINAL:
            break


@given(st.integers(1, 40), policies, jitters)
def test_a_job_that_always_fails_is_dead_after_exactly_its_allowance(
    max_attempts: int, policy: RetryPolicy, jitter: float
) -> None:
    states = [
        decide(attempt, max_attempts, FAILED, policy, NOW, jitter).state for attempt in range(1, max_attempts + 1)
    ]
    assert states == [JobState.RETRYING] * (max_attempts - 1) + [JobState.DEAD]


@given(st.integers(1, 100), st.integers(1, 100), endings)
def test_only_a_snooze_or_a_hand_back_returns_its_attempt(attempt: int, max_attempts: int, ending: Ending) -> None:
    assert decided(ending, attempt, max_attempts).attempt_returned == isinstance(ending, Snoozed)


@given(snoozes, st.integers(1, 100), st.integers(1, 100))
def test_a_snoozed_job_waits_as_long_as_it_asked_even_on_its_last_attempt(
    ending: Snoozed, attempt: int, max_attempts: int
) -> None:
    decision = decided(ending, attempt, max_attempts)
    assert decision.state is JobState.QUEUED
    assert decision.due_at == NOW + timedelta(seconds=ending.seconds)
    assert decision.outcome == ("handed_back" if ending.handed_back else "snoozed")


def test_the_third_crash_is_dead_and_the_first_two_are_not() -> None:
    decisions = [decided(Crashed(crashes), attempt=crashes) for crashes in (1, 2, 3)]
    assert [decision.state for decision in decisions] == [JobState.RETRYING, JobState.RETRYING, JobState.DEAD]
    assert decisions[2].cause == "crashes"
    assert MAX_CRASHES == 3


def test_the_first_crash_is_tried_again_at_once_and_the_second_after_a_pause() -> None:
    first, second = decided(Crashed(1)).due_at, decided(Crashed(2)).due_at
    assert first == NOW
    assert second is not None
    assert second > NOW


def test_a_crash_on_the_last_attempt_spends_the_allowance() -> None:
    """Else a mail whose worker is killed after the server took it could go out more often than it has attempts."""
    decision = decided(Crashed(1), attempt=3, max_attempts=3)
    assert (decision.state, decision.cause, decision.outcome) == (JobState.DEAD, "attempts", "crashed")


def test_a_permanent_failure_is_dead_on_the_first_attempt() -> None:
    decision = decided(Errored("PermanentFailure", "no such mailbox", permanent=True))
    assert (decision.state, decision.cause) == (JobState.DEAD, "permanent")


def test_retry_later_overrules_the_timetable_but_not_the_allowance() -> None:
    asked = Errored("RetryLater", "busy", retry_after_s=77.0)
    assert decided(asked).due_at == NOW + timedelta(seconds=77)
    assert decided(asked, attempt=5).state is JobState.DEAD


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (Snooze(3.0, "too early"), Snoozed(3.0, "too early")),
        (DependencyDown("smtp"), Snoozed(1.0, "smtp is down")),
        (RetryLater(60.0), Errored("RetryLater", "again in 60 s", retry_after_s=60.0)),
        (PermanentFailure("gone"), Errored("PermanentFailure", "gone", "trace", permanent=True)),
        (KeyError("sku"), Errored("KeyError", "'sku'", "trace")),
    ],
)
def test_what_a_handler_raises_is_read_as_what_it_means(error: Exception, ending: Ending) -> None:
    assert ending_of(error, "trace") == ending


@given(st.integers(1, 100), st.integers(1, 100), endings, policies, jitters, deadlines)
def test_nothing_is_due_at_or_after_its_deadline(
    attempt: int, max_attempts: int, ending: Ending, policy: RetryPolicy, jitter: float, deadline_at: datetime
) -> None:
    """What a deadline changes: a job that would run too late is dead now; every other decision stands."""
    free = decide(attempt, max_attempts, ending, policy, NOW, jitter)
    bound = decide(attempt, max_attempts, ending, policy, NOW, jitter, deadline_at)
    if free.due_at is None or free.due_at < deadline_at:
        assert bound == free
    else:
        assert (bound.state, bound.cause, bound.due_at) == (JobState.DEAD, "deadline", None)
        assert bound.attempt_returned == free.attempt_returned
        assert bound.outcome == ("crashed" if isinstance(ending, Crashed) else "dead")


def test_a_success_after_the_deadline_is_a_success() -> None:
    late = decide(1, 5, Succeeded(), Backoff(), NOW, 0.5, NOW - timedelta(days=1))
    assert late.state is JobState.SUCCEEDED


def test_a_job_that_came_too_late_to_start_is_dead_and_has_used_no_attempt() -> None:
    decision = decided(DeadlineExceeded())
    assert (decision.state, decision.cause, decision.attempt_returned) == (JobState.DEAD, "deadline", True)
