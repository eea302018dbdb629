"""What callers were told: accepted, refused, unknown, and what they read afterwards."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row

from ops.chaos.history import CURRENCY, History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen
from ops.chaos.tenants import total_of

#: An order that is decided. `failed` is visible, and stands behind a dead letter.
_DECIDED = {"confirmed", "rejected", "cancelled", "completed", "failed"}


@judge("accepted is durable, and decided")
def accepted_is_decided(history: History, seen: Seen) -> Iterator[str]:
    stored = {str(order.id): order for order in seen.orders}
    for posted in history.accepted():
        order = stored.get(posted.order_id)
        if order is None:
            yield f"order {posted.order_id} was accepted and is not there"
        elif _content(order) != (posted.tenant.id, posted.key, posted.email, CURRENCY, posted.lines):
            yield f"order {posted.order_id} is not the one that was posted"
        elif order.status not in _DECIDED:
            yield f"order {posted.order_id} is {order.status} for ever"
        elif (told := seen.statuses.get(posted.order_id, "nothing")) != order.status:
            yield f"order {posted.order_id} is {order.status}, and a caller sees {told}"


def _content(order: Row[Any]) -> tuple[str, str, str, str, Mapping[str, int]]:
    return str(order.tenant_id), order.idempotency_key, order.customer_email, order.currency, order.lines or {}


@judge("nothing comes from nowhere")
def nothing_is_unexpected(history: History, seen: Seen) -> Iterator[str]:
    wanted = {(posted.tenant.id, posted.key) for posted in history.posted if posted.outcome != "refused"}
    for order in seen.orders:
        if (str(order.tenant_id), order.idempotency_key) not in wanted:
            yield f"order {order.id} was wanted by nobody, or was refused"


@judge("an order costs what was ordered")
def totals_add_up(history: History, seen: Seen) -> Iterator[str]:
    """As many pieces as were asked for, at the price of the product."""
    for posted in history.accepted():
        if (told := seen.totals.get(posted.order_id)) is not None and told != float(total_of(posted)):
            yield f"order {posted.order_id} of {total_of(posted)} dollars costs {told}"


@judge("every outcome can be learned")
def every_outcome_is_known(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001  # one signature for all
    for posted in history.posted:
        if posted.outcome == "unknown":
            yield f"what became of key {posted.key} cannot be learned"


@judge("one key, one order, one answer")
def one_key_has_one_answer(history: History, seen: Seen) -> Iterator[str]:
    keys = Counter((str(order.tenant_id), order.idempotency_key) for order in seen.orders)
    yield from (f"key {key} made {count} orders" for (_, key), count in keys.items() if count > 1)
    for posted in history.accepted():
        if len(posted.answers) > 1:
            yield f"key {posted.key} had {len(posted.answers)} different answers"


@judge("what is right is not refused")
def nothing_good_is_refused(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    for posted in history.posted:
        if posted.outcome == "refused":
            yield f"key {posted.key} was refused: {posted.refusal}"


@judge("no caller is answered 500")
def nobody_is_answered_500(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """An outage is a 503, a bad request a 4xx: whatever a caller or a fault does, nothing takes us by surprise."""
    yield from (f"{what}, {times} times" for what, times in history.statuses.items() if what.endswith(" 500"))


@judge("callers see what they were told")
def callers_saw_nothing_strange(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    yield from history.strange
