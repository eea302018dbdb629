"""What the processes said of themselves."""

from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen


@judge("logs tell no secret")
def logs_tell_no_secret(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """No key, no signing secret, no password, no address of a customer."""
    yield from (f"a secret or an address stands in a line of {line}" for line in seen.said.leaks)


@judge("no 202 comes too late")
def no_answer_comes_too_late(history: History, seen: Seen) -> Iterator[str]:
    """Who has given up is not accepted any more: a 503 and the key are honest. A silent log proves nothing."""
    yield from seen.said.late
    if history.accepted() and not seen.said.slowest_accepted_s:
        yield "orders were accepted, and no line of the log says after what time"
