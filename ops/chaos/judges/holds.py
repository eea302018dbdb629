"""What orders hold, by the ledger alone: taken once, given back or shipped once."""

from collections import defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen


@judge("an order gives back what it took")
def orders_give_back_what_they_took(history: History, seen: Seen) -> Iterator[str]:
    """A confirmed order holds what it asked for; of any other nothing is held; only what is completed has left."""
    wanted = {posted.order_id: posted.lines for posted in history.accepted()}
    held: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    left: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in seen.ledger:
        if entry.order_id:
            held[str(entry.order_id)][entry.sku] += entry.reserved_delta
            left[str(entry.order_id)][entry.sku] -= entry.on_hand_delta
    for order in seen.orders:
        lines = wanted.get(str(order.id), {})
        for what, moved, status in (("holds", held, "confirmed"), ("has shipped", left, "completed")):
            counted = {sku: units for sku, units in moved[str(order.id)].items() if units}
            if counted != (lines if order.status == status else {}):
                yield f"order {order.id} is {order.status} and {what} {counted} of {lines}"
