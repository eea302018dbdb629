"""Events: each fact about an order or a report is published once, and nothing that is no fact."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

_DONE = "report.completed"
#: What has happened to an order that is so; to have failed comes on top.
_WAYS = {
    "confirmed": ("created", "confirmed"),
    "rejected": ("created", "rejected"),
    "completed": ("created", "confirmed", "completed"),
    "cancelled": ("created", "confirmed", "cancelled"),
    "failed": (),
}


@judge("what happened is told once")
def order_events_are_told_once(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """Each step of an order's way has one event. As long as it has failed, its creation may be told or not."""
    told, failed = _told(seen), _failed(seen)
    for order in seen.orders:
        found = dict(told[str(order.id)])
        expected = _expected(order.status, is_failed=order.id in failed, found=found)
        if found != expected:
            yield f"order {order.id} is {order.status}, and of it was told {found or 'nothing'} for {expected}"


def _expected(status: str, *, is_failed: bool, found: dict[str, int]) -> dict[str, int]:
    steps = [*_WAYS.get(status, ())]
    if status == "cancelled" and is_failed and "order.confirmed" not in found:
        steps = ["cancelled"]
    if is_failed:
        steps.append("failed")
        if "created" not in steps and found.get("order.created") == 1:
            steps.append("created")
    return {f"order.{step}": 1 for step in steps}


def _told(seen: Seen) -> dict[str, Counter[str]]:
    told = defaultdict[str, Counter[str]](Counter)
    for event in seen.events_published:
        told[str(event.subject)][event.type] += 1
    return told


def _failed(seen: Seen) -> set[object]:
    """Orders whose reservation was dead once."""
    dead = {letter.job_id for letter in seen.letters if letter.kind == "inventory.reserve"}
    return {job.order_id for job in seen.jobs if job.id in dead}


@judge("what happened is told once")
def report_events_are_told_once(history: History, seen: Seen) -> Iterator[str]:
    """A report that is there has one event, and one that is not has none."""
    told = _told(seen)
    for asked in history.reports:
        state, times = seen.report_states.get(asked.report_id, ""), told[asked.report_id][_DONE]
        if times != (state == "succeeded"):
            yield f"report {asked.report_id} is {state}, and its end was told {times} times"
