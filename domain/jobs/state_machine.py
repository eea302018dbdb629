"""The states of a job and the moves between them. Pure: the SQL of `attempts`, `cancellation` and the rest obeys it.

scheduled -> queued -> running -> succeeded | dead | cancelled
               ^          |
            retrying <----+        dead -> queued by an operator's replay
"""

from enum import StrEnum


class JobState(StrEnum):
    """One word per state, each glossed with who moves a job out of it."""

    SCHEDULED = "scheduled"  # first run lies in the future; a worker's claim moves it, once due
    QUEUED = "queued"  # waits for its first run; a worker's claim moves it
    RUNNING = "running"  # a worker holds the lease; its finish moves it, or the rescuer when the lease runs out
    RETRYING = "retrying"  # failed and will run again; a worker's claim moves it, once due
    SUCCEEDED = "succeeded"  # done; nobody moves it
    DEAD = "dead"  # gave up, see its dead letter; only an operator's replay moves it
    CANCELLED = "cancelled"  # stopped by a person; nobody moves it


WAITING = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING})
TERMINAL = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED})

MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RETRYING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.RETRYING, JobState.QUEUED, JobState.DEAD, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.DEAD: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset(),
}


def may_move(before: JobState, after: JobState) -> bool:
    return after in MOVES[before]
