"""Stock: conserved by its ledger, and taken whole or not at all."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen


@judge("stock is conserved")
def stock_is_conserved(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
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


@judge("an order takes all it asked for, or nothing")
def orders_hold_what_they_asked_for(history: History, seen: Seen) -> Iterator[str]:
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
