"""Orders that callers ended: whoever was told 202 is obeyed, and nothing ends that nobody wanted ended."""

from collections import defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

#: What becomes of an order by what was asked for.
_ENDS = {"cancel": "cancelled", "complete": "completed"}


@judge("who asked for an end has it")
def ends_are_made(history: History, seen: Seen) -> Iterator[str]:
    """A job that was promised has ended its order, or found it ended; or it is dead, for all to see."""
    states = {str(job.id): job.state for job in seen.jobs}
    statuses = {str(order.id): order.status for order in seen.orders}
    for ending in history.endings:
        status, state = statuses.get(ending.order_id, "not there"), states.get(ending.job_id, "not there")
        is_ended = status in {*_ENDS.values(), "rejected"}
        if ending.job_id and not is_ended and state not in {"dead", "cancelled"}:
            yield f"{ending.verb} of order {ending.order_id} was promised: its job is {state}, and the order {status}"


@judge("nothing ends that nobody ended")
def nobody_ends_by_itself(history: History, seen: Seen) -> Iterator[str]:
    asked: dict[str, set[str]] = defaultdict(set)
    for ending in history.endings:
        asked[ending.order_id].add(_ENDS[ending.verb])
    for order in seen.orders:
        if order.status in _ENDS.values() and order.status not in asked[str(order.id)]:
            yield f"order {order.id} is {order.status}, and nobody asked for that"
