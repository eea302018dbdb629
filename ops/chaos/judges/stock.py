"""Stock: conserved by its ledger, and taken whole or not at all."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row

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


@judge("what is there is sold")
def nothing_is_refused_for_want_of_plenty(history: History, seen: Seen) -> Iterator[str]:
    """An order is rejected only where one of its SKUs may run out."""
    status = {str(order.id): order.status for order in seen.orders}
    for posted in history.accepted():
        runs_out = set(posted.lines) & set(posted.tenant.scarce)
        if status.get(posted.order_id) == "rejected" and not runs_out:
            yield f"order {posted.order_id} is rejected, and there is plenty of {', '.join(posted.lines)}"


@judge("stock is never below nothing")
def stock_is_never_negative(history: History, seen: Seen) -> Iterator[str]:
    """At no moment of the ledger was more reserved than there was, or less than nothing.

    A movement's id is made while its stock is locked, so ids tell the order, to a millisecond; unless somebody's clock
    was wrong. Its distance from the database's gives an hour ahead away; where a clock was put back, its process makes
    ids of the last millisecond that it knew, so what they say of these moments counts for nothing.
    """
    for (_, sku), of_sku in groupby(seen.ledger, key=lambda entry: (entry.tenant_id, entry.sku)):
        movements = list(of_sku)
        if all(0 <= _moment_s(entry) - entry.at.timestamp() + _ROUNDED_S < _LONGEST_S for entry in movements):
            yield from _below_nothing(history, sku, movements)


#: Ids tell whole milliseconds.
_ROUNDED_S = 0.001
_LONGEST_S = 60.0
#: So long ago may a process that is not idle have made its last id, when its clock is put back.
_LAST_ID_S = 10.0


def _moment_s(entry: Row[Any]) -> float:
    return float((entry.id.int >> 80) / 1_000)


def _below_nothing(history: History, sku: str, movements: Sequence[Row[Any]]) -> Iterator[str]:
    on_hand = reserved = 0
    for moment, mates in groupby(movements, key=_moment_s):
        for entry in mates:
            on_hand, reserved = on_hand + entry.on_hand_delta, reserved + entry.reserved_delta
        if 0 <= reserved <= on_hand or history.stage.stood({"clock-back"}, moment, moment + _LAST_ID_S):
            continue
        yield f"{sku}: {reserved} reserved of {on_hand} at {moment:.3f}"
        return


@judge("stock by hand is counted once")
def adjustments_count_once(history: History, seen: Seen) -> Iterator[str]:
    """What was confirmed is in the ledger, what was refused is not, and what nobody knows is there at most once."""
    found = Counter((str(entry.tenant_id), entry.sku, entry.on_hand_delta) for entry in seen.ledger if _by_hand(entry))
    known, possible = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()
    for one in history.adjustments:
        known[one.tenant_id, one.sku, one.delta] += one.done == "ok"
        possible[one.tenant_id, one.sku, one.delta] += one.done != "fail"
    for place in found.keys() | possible.keys():
        if not known[place] <= found[place] <= possible[place]:
            _, sku, delta = place
            yield f"{sku} by {delta:+}: {found[place]} in the ledger, {known[place]} to {possible[place]} expected"


def _by_hand(entry: Row[Any]) -> bool:
    return bool(entry.reason == "adjusted")
