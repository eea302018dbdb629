"""What the harness itself saw broken while it happened: faults and operators note it under the promise that fell."""

from collections.abc import Iterator
from typing import get_args

from ops.chaos.history import History, Noted
from ops.chaos.judges import Judge, judge
from ops.chaos.observe import Seen


def _told(promise: Noted) -> Judge:
    def tell(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001  # the signature of a judge
        yield from history.noted[promise]

    return tell


for _promise in get_args(Noted):
    judge(_promise)(_told(_promise))
