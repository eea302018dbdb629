"""What subscribers said: an event is delivered when one of them has taken it, not when it was sent."""

from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.judges.webhooks import event_of
from ops.chaos.observe import Seen


@judge("webhooks are acknowledged")
def webhooks_are_acknowledged(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """A delivery that succeeded was answered with 2xx by that very subscriber."""
    taken = {
        (delivery.path, event_of(delivery))
        for delivery in [*seen.deliveries, *seen.aside]
        if delivery.status is not None and 200 <= delivery.status < 300
    }
    for job in seen.jobs:
        if job.kind == "webhook.deliver" and job.code == "DELIVERED":
            path = seen.paths.get(job.endpoint_id, "")
            if (path, str(job.event_id)) not in taken:
                yield f"event {job.event_id} was delivered to {path}, they say, and was not taken there"
