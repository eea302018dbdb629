"""Webhooks, as their subscribers noted them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row
from standardwebhooks import Webhook

from ops.chaos.history import Endpoint, History
from ops.chaos.judges import judge, leeway
from ops.chaos.observe import Seen
from ops.chaos.outside import Delivery

#: Of the specification's own libraries.
_TOLERANCE_S = 300
#: An event is dated by the start of its transaction, which may look for subscribers so much later.
_LONGEST_TRANSACTION_S = 30.0


@judge("webhooks arrive")
def webhooks_arrive(history: History, seen: Seen) -> Iterator[str]:
    """Each event reaches each subscriber at least once, or its job is dead for all to see."""
    arrived = {(delivery.path, event_of(delivery)) for delivery in seen.deliveries}
    jobs = {(str(job.event_id), job.endpoint_id): job for job in seen.jobs if job.kind == "webhook.deliver"}
    for event, endpoint in wanted(history, seen):
        job = jobs.get((str(event.id), endpoint.id))
        if job is None:
            yield f"{event.type} {event.id} has no delivery to {endpoint.path}"
        elif job.state == "succeeded" and job.code == "DELIVERED" and (endpoint.path, str(event.id)) not in arrived:
            yield f"{event.type} {event.id} was delivered to {endpoint.path}, they say, and never arrived"


def wanted(history: History, seen: Seen) -> Iterator[tuple[Row[Any], Endpoint]]:
    """Each event with each subscriber of its tenant that asked for it, and surely stood when it was published."""
    standing: dict[str, list[Endpoint]] = {}
    roughly_s = leeway(history).total_seconds()
    for endpoint in seen.endpoints:
        if endpoint.id:
            standing.setdefault(endpoint.tenant.id, []).append(endpoint)
    for event in seen.events_published:
        at = event.occurred_at.timestamp()
        for endpoint in standing.get(str(event.tenant_id), []):
            stands = endpoint.since + roughly_s < at < endpoint.ending - _LONGEST_TRANSACTION_S
            if stands and endpoint.hears_of(event.type):
                yield event, endpoint


@judge("who left hears nothing new")
def the_deleted_hear_nothing_new(history: History, seen: Seen) -> Iterator[str]:
    roughly_s = leeway(history).total_seconds()
    gone = {endpoint.path: endpoint.gone for endpoint in seen.endpoints}
    happened = {str(event.id): event.occurred_at.timestamp() for event in seen.events_published}
    for delivery in seen.deliveries:
        if happened.get(event_of(delivery), 0.0) > gone.get(delivery.path, float("inf")) + roughly_s:
            yield f"{delivery.path} was told of {event_of(delivery)}, which happened after it was deleted"


@judge("webhooks are genuine")
def webhooks_are_genuine(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """One event, one id and the same bytes; signed with the subscriber's secret; nobody hears of another's business."""
    events = {str(event.id): event for event in seen.events_published}
    endpoints = {endpoint.path: endpoint for endpoint in seen.endpoints}
    ids: dict[str, str] = {}
    bodies: dict[str, bytes] = {}
    for delivery in seen.deliveries:
        endpoint = endpoints.get(delivery.path)
        event_id = event_of(delivery)
        event = events.get(event_id)
        if event is None or endpoint is None or str(event.tenant_id) != endpoint.tenant.id:
            yield f"{delivery.path} was told of {event_id}, which is not its business"
            continue
        if ids.setdefault(event_id, delivery.webhook_id) != delivery.webhook_id:
            yield f"event {event_id} came under {ids[event_id]} and {delivery.webhook_id}"
        if bodies.setdefault(event_id, delivery.body) != delivery.body:
            yield f"event {event_id} came with different bytes"
        if endpoint.secret and (problem := _signature_problem(endpoint.secret, delivery)) is not None:
            yield f"event {event_id}: {problem}"


@judge("webhooks go where they may, when they may")
def webhooks_are_led_by_nobody(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """No redirect is followed, no forbidden address is spoken to, and who asks for patience is given it."""
    yield from (f"somebody was led astray: {request}" for request in seen.canaries)
    yield from (f"claim {row.claim} of {row.job_id} ended with a time to wait, which was not" for row in seen.too_soon)


def event_of(delivery: Delivery) -> str:
    return _BODY.decode(delivery.body).id


class _Body(msgspec.Struct):
    id: str


_BODY = msgspec.json.Decoder(_Body)


def _signature_problem(secret: str, delivery: Delivery) -> str | None:
    """As a subscriber verifies it on arrival; the library itself would hold it against the clock of today."""
    said_at = int(delivery.headers.get("webhook-timestamp", "0"))
    genuine = Webhook(secret).sign(delivery.webhook_id, datetime.fromtimestamp(said_at, UTC), delivery.body.decode())
    if genuine not in delivery.headers.get("webhook-signature", "").split(" "):
        return "its signature does not verify"
    if abs(delivery.received_at - said_at) > _TOLERANCE_S:
        return f"its timestamp is {delivery.received_at - said_at:.0f} s off"
    return None
