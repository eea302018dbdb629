"""The judge: what callers were told, held against what is there at the end. Pure; knows no fault and no excuse.

Each check is one promise of docs/reliability.md; what it finds names the order, job or message, so that it can be
looked up. All are linear in what was seen.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import msgspec
from standardwebhooks import Webhook

from ops.chaos.history import History
from ops.chaos.observe import Seen

#: An order that is decided. `failed` is visible, and stands behind a dead letter.
_DECIDED = {"confirmed", "rejected", "cancelled", "completed", "failed"}
_TERMINAL = {"succeeded", "dead", "cancelled"}
_MOST_COPIES = 3
_SHOWN = 20


class Finding(msgspec.Struct, frozen=True):
    """One broken promise."""

    promise: str
    what: str


def check(history: History, seen: Seen) -> list[Finding]:
    """Every broken promise, at most 20 of each sort."""
    findings = []
    for promise, judge in _JUDGES.items():
        for number, what in enumerate(judge(history, seen)):
            if number == _SHOWN:
                break
            findings.append(Finding(promise, what))
    return findings


def _accepted_is_decided(history: History, seen: Seen) -> Iterator[str]:
    stored = {str(order.id): order for order in seen.orders}
    for posted in history.accepted():
        order = stored.get(posted.order_id)
        if order is None:
            yield f"order {posted.order_id} was accepted and is not there"
        elif (str(order.tenant_id), order.idempotency_key) != (posted.tenant.id, posted.key):
            yield f"order {posted.order_id} is not the one that was posted"
        elif order.status not in _DECIDED:
            yield f"order {posted.order_id} is {order.status} for ever"
        elif seen.statuses[posted.order_id] != order.status:
            yield f"order {posted.order_id} is {order.status}, and a caller sees {seen.statuses[posted.order_id]}"


def _nothing_is_unexpected(history: History, seen: Seen) -> Iterator[str]:
    wanted = {(posted.tenant.id, posted.key) for posted in history.posted if posted.outcome != "refused"}
    for order in seen.orders:
        if (str(order.tenant_id), order.idempotency_key) not in wanted:
            yield f"order {order.id} was wanted by nobody, or was refused"


def _every_outcome_is_known(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001  # one signature for all
    for posted in history.posted:
        if posted.outcome == "unknown":
            yield f"what became of key {posted.key} cannot be learned"


def _one_key_has_one_answer(history: History, seen: Seen) -> Iterator[str]:
    keys = Counter((str(order.tenant_id), order.idempotency_key) for order in seen.orders)
    yield from (f"key {key} made {count} orders" for (_, key), count in keys.items() if count > 1)
    for posted in history.accepted():
        if len(posted.answers) > 1:
            yield f"key {posted.key} had {len(posted.answers)} different answers"


def _nothing_good_is_refused(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for posted in history.posted:
        if posted.outcome == "refused":
            yield f"key {posted.key} was refused: {posted.refusal}"


def _callers_saw_nothing_strange(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    yield from history.strange


def _invariants_hold(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for name, rows in seen.broken_invariants.items():
        yield from (f"{name}: {row}" for row in rows)


def _every_job_has_ended(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for job in seen.jobs:
        if job.state not in _TERMINAL:
            yield f"{job.kind} {job.id} is {job.state}"
        elif job.state == "dead" and not job.has_letter:
            yield f"{job.kind} {job.id} is dead without a dead letter"
        elif job.kind == "chaos.honest" and job.state != "succeeded":
            yield f"an honest neighbour {job.id} is {job.state}"
        elif job.kind == "chaos.poison" and (job.state != "dead" or job.crashes > 3):
            yield f"poison {job.id} is {job.state} after {job.crashes} crashes"
        elif job.state == "succeeded" and not 0 < job.attempt <= job.claim:
            yield f"{job.kind} {job.id} succeeded with attempt {job.attempt} of claim {job.claim}"


def _stock_is_conserved(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for entry in seen.ledger:
        held = sums[str(entry.tenant_id), entry.sku]
        held[0] += entry.on_hand_delta
        held[1] += entry.reserved_delta
    for stock in seen.stock:
        if sums[str(stock.tenant_id), stock.sku] != [stock.on_hand, stock.reserved]:
            yield f"{stock.sku}: the ledger says {sums[str(stock.tenant_id), stock.sku]}"
    moves = Counter((entry.order_id, entry.sku, entry.reason) for entry in seen.ledger if entry.order_id)
    for (order_id, sku, reason), times in moves.items():
        if times > 1:
            yield f"{sku} was {reason} {times} times for order {order_id}"


def _orders_hold_what_they_asked_for(history: History, seen: Seen) -> Iterator[str]:
    wanted = {posted.order_id: posted.lines for posted in history.accepted()}
    taken: dict[str, dict[str, int]] = defaultdict(dict)
    for entry in seen.ledger:
        if entry.order_id and entry.reason == "reserved":
            taken[str(entry.order_id)][entry.sku] = entry.reserved_delta
    for order in seen.orders:
        lines = taken.get(str(order.id), {})
        if order.status in {"confirmed", "completed"} and lines != wanted.get(str(order.id)):
            yield f"order {order.id} is {order.status} and took {lines} of {wanted.get(str(order.id))}"
        if order.status == "rejected" and lines:
            yield f"order {order.id} is rejected and took {lines}"


def _webhooks_arrive(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """Each event reaches its subscriber at least once, or its job is dead for all to see."""
    arrived = {delivery.webhook_id for delivery in seen.deliveries}
    jobs = {job.event_id: job for job in seen.jobs if job.kind == "webhook.deliver"}
    subscribed = {tenant_id for tenant_id, _ in seen.subscribers.values()}
    for event in seen.events_published:
        if str(event.tenant_id) not in subscribed:
            continue
        job = jobs.get(event.id)
        if job is None:
            yield f"{event.type} {event.id} has no delivery"
        elif job.state == "succeeded" and not any(
            str(event.id).replace("-", "") in word or str(event.id) in word for word in arrived
        ):
            yield f"{event.type} {event.id} was delivered, they say, and never arrived"


def _webhooks_are_genuine(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
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
        if (problem := _signature_problem(secret, delivery.body, delivery.headers)) is not None:
            yield f"event {event_id}: {problem}"


def _signature_problem(secret: str, body: bytes, headers: dict[str, str]) -> str | None:
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except Exception as error:  # noqa: BLE001  # whatever the library says
        return f"its signature does not verify: {error}"
    return None


def _mails_are_few(history: History, seen: Seen) -> Iterator[str]:
    """One decision is told under one Message-ID, in at most three copies, and to nobody else."""
    ordered = {posted.email for posted in history.posted}
    for recipient, sent in _copies(seen).items():
        if recipient not in ordered:
            yield f"a mail went to somebody who ordered nothing: {recipient}"
        if len(sent) > 1:
            yield f"{recipient} was told under {len(sent)} Message-IDs"
        if (most := max(sent.values())) > _MOST_COPIES:
            yield f"{recipient} had {most} copies"


def _mails_arrive(history: History, seen: Seen) -> Iterator[str]:
    """Who was decided is told."""
    arrived, told = _copies(seen), defaultdict[str, list[str]](list)
    for job in seen.jobs:
        if job.kind.startswith("email."):
            told[str(job.order_id)].append(job.state)
    status = {str(order.id): order.status for order in seen.orders}
    for posted in history.accepted():
        if status.get(posted.order_id) in {"confirmed", "completed", "rejected"} and posted.order_id not in told:
            yield f"nobody was asked to tell {posted.email}"
        if "succeeded" in told[posted.order_id] and posted.email not in arrived:
            yield f"{posted.email} was told, they say, and has no mail"


def _copies(seen: Seen) -> dict[str, Counter[str]]:
    """By recipient, how many copies under each Message-ID."""
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    for mail in seen.mails:
        copies[mail.recipient][mail.message_id] += 1
    return copies


_JUDGES: dict[str, Callable[[History, Seen], Iterator[str]]] = {
    "accepted is durable, and decided": _accepted_is_decided,
    "nothing comes from nowhere": _nothing_is_unexpected,
    "every outcome can be learned": _every_outcome_is_known,
    "one key, one order, one answer": _one_key_has_one_answer,
    "what is right is not refused": _nothing_good_is_refused,
    "callers see what they were told": _callers_saw_nothing_strange,
    "invariants": _invariants_hold,
    "every job ends, or is dead for all to see": _every_job_has_ended,
    "stock is conserved": _stock_is_conserved,
    "an order takes all it asked for, or nothing": _orders_hold_what_they_asked_for,
    "webhooks arrive": _webhooks_arrive,
    "webhooks are genuine": _webhooks_are_genuine,
    "mails arrive": _mails_arrive,
    "mails are few": _mails_are_few,
}
