"""What goes by the calendar: every tick that has passed became one job."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

_MINUTE = timedelta(minutes=1)


@judge("each tick fires once")
def each_tick_fires_once(history: History, seen: Seen) -> Iterator[str]:
    """From the first of a schedule to the first that is yet to come."""
    standing = {row.name: row for row in seen.ticks}
    for name, first in history.schedules.items():
        if name not in standing:
            yield f"schedule {name} was added, and is gone"
            continue
        fired = Counter(datetime.fromisoformat(tick) for tick in standing[name].ticks or ())
        due = Counter(_minutes(first, standing[name].next_at))
        for how, ticks in (("was not fired", due - fired), ("was fired too often", fired - due)):
            yield from (f"tick {tick} of schedule {name} {how}" for tick in ticks)


def _minutes(first: datetime, end: datetime) -> Iterator[datetime]:
    while first < end:
        yield first
        first += _MINUTE
