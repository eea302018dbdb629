"""What the database holds of work: every job ends, and what must always hold still does."""

from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.kinds import WELL
from ops.chaos.observe import Seen

_HONEST = {"chaos.honest", "chaos.newest"}
_TERMINAL = {"succeeded", "dead", "cancelled"}


@judge("invariants")
def invariants_hold(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for name, rows in seen.broken_invariants.items():
        yield from (f"{name}: {row}" for row in rows)


@judge("every job ends, or is dead for all to see")
def every_job_has_ended(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for job in seen.jobs:
        if job.state not in _TERMINAL:
            yield f"{job.kind} {job.id} is {job.state}"
        elif job.state == "dead" and not job.has_letter:
            yield f"{job.kind} {job.id} is dead without a dead letter"
        elif job.kind in _HONEST and job.state != "succeeded":
            yield f"an honest neighbour {job.id} is {job.state}"
        elif job.kind == "chaos.poison" and (job.state != "dead" or job.crashes > 3):
            yield f"poison {job.id} is {job.state} after {job.crashes} crashes"
        elif job.kind == "chaos.rogue" and job.state != ("succeeded" if job.how == WELL else "dead"):
            yield f"a rogue that {job.how} is {job.state}"
        elif job.state == "succeeded" and not 0 < job.attempt <= job.claim:
            yield f"{job.kind} {job.id} succeeded with attempt {job.attempt} of claim {job.claim}"
