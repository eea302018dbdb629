"""Webhooks, as their subscribers noted them."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from standardwebhooks import Webhook

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen
from ops.chaos.outside import Delivery

#: Of the specification's own libraries.
_TOLERANCE_S = 300


@judge("webhooks arrive")
def webhooks_arrive(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """Each event reaches its subscriber at least once, or its job is dead for all to see."""
    arrived = {msgspec.json.decode(delivery.body)["id"] for delivery in seen.deliveries}
    jobs = {job.event_id: job for job in seen.jobs if job.kind == "webhook.deliver"}
    subscribed = {tenant_id for tenant_id, _ in seen.subscribers.values()}
    for event in seen.events_published:
        if str(event.tenant_id) not in subscribed:
            continue
        job = jobs.get(event.id)
        if job is None:
            yield f"{event.type} {event.id} has no delivery"
        elif job.state == "succeeded" and str(event.id) not in arrived:
            yield f"{event.type} {event.id} was delivered, they say, and never arrived"


@judge("webhooks are genuine")
def webhooks_are_genuine(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """One event, one id and the same bytes; signed with the subscriber's secret; nobody hears of another's business."""
    events = {str(event.id): event for event in seen.events_published}
    ids: dict[str, str] = {}
    bodies: dict[str, bytes] = {}
    for delivery in seen.deliveries:
        tenant_id, secret = seen.subscribers[delivery.path]
        event_id = msgspec.json.decode(delivery.body)["id"]
        event = events.get(event_id)
        if event is None or str(event.tenant_id) != tenant_id:
            yield f"{delivery.path} was told of {event_id}, which is not its business"
        if ids.setdefault(event_id, delivery.webhook_id) != delivery.webhook_id:
            yield f"event {event_id} came under {ids[event_id]} and {delivery.webhook_id}"
        if bodies.setdefault(event_id, delivery.body) != delivery.body:
            yield f"event {event_id} came with different bytes"
        if (problem := _signature_problem(secret, delivery)) is not None:
            yield f"event {event_id}: {problem}"


@judge("webhooks go where they may, when they may")
def webhooks_are_led_by_nobody(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """No redirect is followed, no forbidden address is spoken to, and who asks for patience is given it."""
    yield from (f"somebody was led astray: {request}" for request in seen.canaries)
    yield from (f"claim {row.claim} of {row.job_id} ended with a time to wait, which was not" for row in seen.too_soon)


def _signature_problem(secret: str, delivery: Delivery) -> str | None:
    """As a subscriber verifies it on arrival; the library itself would hold it against the clock of today."""
    said_at = int(delivery.headers.get("webhook-timestamp", "0"))
    genuine = Webhook(secret).sign(delivery.webhook_id, datetime.fromtimestamp(said_at, UTC), delivery.body.decode())
    if genuine not in delivery.headers.get("webhook-signature", "").split(" "):
        return "its signature does not verify"
    if abs(delivery.received_at - said_at) > _TOLERANCE_S:
        return f"its timestamp is {delivery.received_at - said_at:.0f} s off"
    return None
