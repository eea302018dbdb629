"""Queues that an operator held: what came meanwhile began afterwards."""

from collections.abc import Iterator
from datetime import timedelta

from domain.jobs.kind import KINDS
from ops.chaos.history import History, Pause
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

#: A relay has heard of a pause by then, several times over.
_HEARD_AFTER = timedelta(seconds=1.5)
#: What touches these holds up no relay in the middle of a pass, and rings no bell of its own.
_NO_MATTER = {"web", "rescuer", "scheduler", "worker", "outside", "subscribers", "callers"}


@judge("what is paused rests")
def what_is_paused_rests(history: History, seen: Seen) -> Iterator[str]:
    """By the database's clock: a job that was made while its queue was held has no attempt until it runs again.

    What was rung before, or came just after the pause, may still begin.
    """
    for pause in history.pauses:
        since, until = pause.since + _HEARD_AFTER, pause.until
        if history.stage.felt(pause.since.timestamp(), until.timestamp(), _NO_MATTER):
            continue
        made = {job.id: job.kind for job in seen.jobs if since < job.created_at < until and _is_of(job.kind, pause)}
        for attempt in seen.attempts:
            if attempt.job_id in made and attempt.started_at < until:
                yield f"{made[attempt.job_id]} {attempt.job_id} began while {pause.queue} was paused"


def _is_of(kind: str, pause: Pause) -> bool:
    return kind in KINDS and KINDS[kind].queue == pause.queue
