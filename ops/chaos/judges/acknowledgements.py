"""What subscribers said: an event is delivered when one of them has taken it, not when it was sent."""

from collections.abc import Iterator

import msgspec

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

_GONE = 410


@judge("webhooks are acknowledged")
def webhooks_are_acknowledged(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """A delivery that succeeded was answered with 2xx, or with the wish to hear no more.

    A guest's endpoint is deleted in the end, which is success too.
    """
    lasting = {endpoint.tenant.id for endpoint in seen.endpoints}
    taken = {
        msgspec.json.decode(delivery.body)["id"]
        for delivery in seen.deliveries
        if delivery.status is not None and (200 <= delivery.status < 300 or delivery.status == _GONE)
    }
    for job in seen.jobs:
        if job.kind != "webhook.deliver" or job.code != "DELIVERED" or str(job.tenant_id) not in lasting:
            continue
        if str(job.event_id) not in taken:
            yield f"event {job.event_id} was delivered, they say, and no subscriber took it"
