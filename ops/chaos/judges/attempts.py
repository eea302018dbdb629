"""Attempts, by the database's own clock: a job's life is a path of the state machine, one claim after the other."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Row

from ops.chaos.history import History
from ops.chaos.judges import judge, leeway
from ops.chaos.observe import Seen

#: What gives its attempt back: the next one has the same number.
_RETURNED = {"snoozed", "handed_back"}
_MOST_CRASHES = 3


@judge("attempts follow one another")
def attempts_follow_one_another(history: History, seen: Seen) -> Iterator[str]:
    """Each claim has its attempt; numbers rise; no two overlap; at most one succeeded, and it was the last."""
    jobs = {job.id: job for job in seen.jobs}
    for job_id, mates in groupby(seen.attempts, key=lambda attempt: attempt.job_id):
        attempts = list(mates)
        job = jobs.pop(job_id, None)
        if job is None:
            yield f"there are attempts of {job_id}, and no such job"
        else:
            yield from (f"{job.kind} {job_id}: {problem}" for problem in _problems(job, attempts, leeway(history)))
    for job in jobs.values():
        if job.claim or job.state in {"succeeded", "dead"}:
            yield f"{job.kind} {job.id} is {job.state} without an attempt"


def _problems(job: Row[Any], attempts: Sequence[Row[Any]], roughly: timedelta) -> Iterator[str]:
    if [attempt.claim for attempt in attempts] != list(range(1, job.claim + 1)):
        yield f"its {job.claim} claims left attempts {[attempt.claim for attempt in attempts]}"
    if attempts[0].started_at < job.created_at - roughly:
        yield "it started before it was made"
    if any(attempt.finished_at < attempt.started_at - roughly for attempt in attempts):
        yield "an attempt ended before it started"
    for one, next_ in pairwise(attempts):
        if next_.started_at < one.finished_at - roughly:
            yield f"attempts {one.claim} and {next_.claim} overlap"
        if next_.number != one.number + (one.outcome not in _RETURNED):
            yield f"attempt {next_.number} came after attempt {one.number}, which {one.outcome}"
    outcomes = [attempt.outcome for attempt in attempts]
    if outcomes.count("succeeded") != (job.state == "succeeded") or "succeeded" in outcomes[:-1]:
        yield f"it is {job.state} after {outcomes}"


@judge("what crashes is dead by its third crash")
def crashes_are_few(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """A replay gives a job a new life."""
    deaths = Counter(letter.job_id for letter in seen.letters)
    crashes = Counter(attempt.job_id for attempt in seen.attempts if attempt.outcome == "crashed")
    for job_id, times in crashes.items():
        if times > _MOST_CRASHES * max(1, deaths[job_id]):
            yield f"job {job_id} crashed {times} times and was dead {deaths[job_id]} times"


@judge("times are in order")
def times_are_in_order(history: History, seen: Seen) -> Iterator[str]:
    roughly = leeway(history)
    for job in seen.jobs:
        times = [at for at in (job.created_at, job.started_at, job.finished_at) if at is not None]
        if any(later < earlier - roughly for earlier, later in pairwise(times)):
            yield f"{job.kind} {job.id} was made, started and ended at {', '.join(map(str, times))}"


@judge("what has succeeded has succeeded for good")
def success_is_for_good(history: History, seen: Seen) -> Iterator[str]:
    for job in seen.jobs:
        if job.state != "succeeded" and str(job.id) in history.succeeded:
            yield f"{job.kind} {job.id} had succeeded, and is {job.state}"
