"""The judges: each holds one promise against what callers were told and what is there at the end.

The promises are those of docs/chaos.md. Judges are pure, and linear in what they were given. What they take for
an excuse is what the harness itself did or saw; of the product's own word only crashes and numbers of attempts.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import msgspec

from ops.chaos.history import History
from ops.chaos.observe import Seen


class Finding(msgspec.Struct, frozen=True):
    """One broken promise: `what` names the order, job or message, so that it can be looked up."""

    promise: str
    what: str


#: The database's own clock may jump by less than this, in one fault.
_JUMP, _ROUGHLY = timedelta(seconds=5), timedelta(seconds=0.5)


def leeway(history: History) -> timedelta:
    """Times of the database, and of the harness, that are further apart tell an order; others do not."""
    return _JUMP if history.stage.stood({"database-clock"}, float("-inf"), float("inf")) else _ROUGHLY


Judge = Callable[[History, Seen], Iterator[str]]

JUDGES: list[tuple[str, Judge]] = []


def judge(promise: str) -> Callable[[Judge], Judge]:
    """The decorated generator yields what breaks this promise. A promise may have several judges."""

    def register(one: Judge) -> Judge:
        JUDGES.append((promise, one))
        return one

    return register
