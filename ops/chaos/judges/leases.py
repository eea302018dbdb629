"""Leases: a worker that lives and is reached renews them, however long its jobs take."""

from collections.abc import Iterator
from datetime import timedelta

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

#: What touches these keeps no worker from renewing.
_NO_MATTER = {"web", "valkey", "relay", "rescuer", "scheduler", "outside", "subscribers", "callers"}
#: They take their worker with them, or keep its threads from running, whenever an operator sends them again.
_HARMFUL = {"chaos.poison", "chaos.stall", "chaos.glutton"}
#: So long after it began may one of them be felt.
_FELT_FOR = timedelta(seconds=30)


@judge("whoever lives keeps its lease")
def who_lives_keeps_its_lease(history: History, seen: Seen) -> Iterator[str]:
    """A job that is longer than a lease has one attempt, where no fault may have ended another."""
    patient = {job.id: job for job in seen.jobs if job.kind == "chaos.patient"}
    harmful = {job.id for job in seen.jobs if job.kind in _HARMFUL}
    harms = [attempt.started_at for attempt in seen.attempts if attempt.job_id in harmful]
    for attempt in seen.attempts:
        job = patient.get(attempt.job_id)
        if job is None or attempt.outcome != "crashed":
            continue
        if any(attempt.started_at - _FELT_FOR < harm < attempt.finished_at for harm in harms):
            continue
        if not history.stage.felt(job.created_at.timestamp(), attempt.finished_at.timestamp(), _NO_MATTER):
            yield f"attempt {attempt.claim} of {job.id} was taken from a worker that nothing ailed"
