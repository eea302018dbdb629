"""Reports: promised, written, and right."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from ops.chaos.history import CURRENCY, Asked, History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen
from ops.chaos.tenants import total_of


@judge("reports are whole and right")
def reports_are_right(history: History, seen: Seen) -> Iterator[str]:
    """Once its job has succeeded the file is there, with every order of its period that was accepted before the report
    was asked for, and nothing else. A report whose job gave up is dead for all to see.
    """
    accepted_at = {posted.order_id: posted.accepted_at for posted in history.accepted()}
    orders = defaultdict[str, list[tuple[datetime, str]]](list)
    for order in seen.orders:
        orders[str(order.tenant_id)].append((order.created_at, str(order.id)))
    for of_tenant in orders.values():
        of_tenant.sort()
    for asked in history.reports:
        state = seen.report_states.get(asked.report_id, "")
        if state == "succeeded":
            yield from (
                f"report {asked.report_id} {why}" for why in _wrong(asked, orders[asked.tenant.id], accepted_at)
            )
        elif state != "dead":
            yield f"report {asked.report_id} was promised, and is {state or 'not there'}"


#: What an order may have been before it was what it is.
_BEFORE = {
    "confirmed": {"accepted", "failed"},
    "rejected": {"accepted", "failed"},
    "completed": {"accepted", "failed", "confirmed"},
    "cancelled": {"accepted", "failed", "confirmed"},
    "failed": {"accepted"},
}


@judge("reports are whole and right")
def rows_tell_the_truth(history: History, seen: Seen) -> Iterator[str]:
    """Each row names the customer, says what the order costs, and what it was on the way to what it is."""
    wanted = {posted.order_id: posted for posted in history.accepted()}
    status = {str(order.id): order.status for order in seen.orders}
    for asked in history.reports:
        for order_id, (_, told, _, email, currency, total) in zip(asked.order_ids or (), asked.cells, strict=False):
            posted, now = wanted.get(order_id), status.get(order_id, "")
            if posted is None:
                continue
            if (email, currency, total) != (posted.email, CURRENCY, f"{total_of(posted):.2f}"):
                yield f"report {asked.report_id} has {email} and {total} {currency} for order {order_id}"
            if told != now and told not in _BEFORE.get(now, ()):
                yield f"report {asked.report_id} has {told} for order {order_id}, which is {now}"


def _wrong(asked: Asked, orders: list[tuple[datetime, str]], accepted_at: dict[str, float]) -> Iterator[str]:
    if asked.order_ids is None:
        yield "has no file"
        return
    told = set(asked.order_ids)
    if len(told) < len(asked.order_ids):
        yield "tells of an order twice"
    if (asked.size, len(asked.order_ids)) != (asked.said_bytes, asked.said_rows):
        yield f"has {asked.size} bytes and {len(asked.order_ids)} rows, not {asked.said_bytes} and {asked.said_rows}"
    start, end = (bisect_left(orders, (at, "")) for at in (asked.since, asked.until))
    of_period = {order_id for _, order_id in orders[start:end]}
    if strange := told - of_period:
        yield f"tells of {len(strange)} orders that are not of its period and tenant"
    due = {order_id for order_id in of_period if accepted_at.get(order_id, float("inf")) < asked.asked_at}
    if missing := due - told:
        yield f"does not tell of {len(missing)} orders, {min(missing)} among them"
