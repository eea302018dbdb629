"""How long the jobs of a series waited for their start, from what the sender and the jobs wrote down. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from ops.bench.sink import Mark


class Waits(msgspec.Struct, frozen=True):
    """Milliseconds to the start of each job, from its enqueue call and from that call's return."""

    from_call: list[float]
    from_return: list[float]


def waits(sent: Sequence[tuple[float, float]], marks: Sequence[Mark]) -> Waits:
    """Of each job that started; its number is the moment before it was sent."""
    returned: Mapping[float, float] = dict(sent)
    return Waits(
        [(start - before) * 1000 for before, start in marks],
        [(start - returned[before]) * 1000 for before, start in marks],
    )
