"""What subscribers asked for."""

from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.judges.webhooks import event_of
from ops.chaos.observe import Seen


@judge("nobody hears what he did not ask for")
def nobody_hears_of_more(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """An endpoint that asked for some types of event is told of no other."""
    endpoints = {endpoint.path: endpoint for endpoint in seen.endpoints}
    types = {str(event.id): event.type for event in seen.events_published}
    for delivery in seen.deliveries:
        endpoint, type_ = endpoints.get(delivery.path), types.get(event_of(delivery))
        if endpoint and type_ and not endpoint.hears_of(type_):
            yield f"{delivery.path} asked for {', '.join(endpoint.types)}, and was told of a {type_}"
