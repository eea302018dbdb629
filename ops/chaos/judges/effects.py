"""What jobs did: each effect once, and none of what failed."""

from collections import defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

_DEEDS = {"chaos.deed", "chaos.doomed", "chaos.newest"}


@judge("work is done once")
def work_is_done_once(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """A deed that succeeded has had its effect once, under the claim it succeeded with; any other has had none."""
    claims: dict[str, list[int]] = defaultdict(list)
    for deed in seen.deeds:
        claims[str(deed.job_id)].append(deed.claim)
    for job in seen.jobs:
        done = claims.pop(str(job.id), [])
        if job.kind in _DEEDS and done != ([job.claim] if job.state == "succeeded" else []):
            yield f"deed {job.id} is {job.state} by claim {job.claim}, and was done by {done}"
    yield from (f"deed {job_id} was done, and nobody asked for it" for job_id in claims)
