"""What became of the jobs of a killed worker, from the moments of the kills and the marks of the jobs. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from ops.bench.sink import Mark


class Kill(msgspec.Struct, frozen=True):
    """A worker was killed at this moment, and the jobs with these numbers were running in it."""

    moment: float
    taken: list[float]


def re_runs(marks: Sequence[Mark], killed: Sequence[Kill]) -> list[float]:
    """Seconds from each kill to the next start of each job it took. A job that died of its crashes has none."""
    starts = _starts(marks)
    delays = []
    for kill in killed:
        for number in kill.taken:
            again = [moment for moment in starts.get(number, []) if moment > kill.moment]
            delays += [min(again) - kill.moment] if again else []
    return delays


def _starts(marks: Sequence[Mark]) -> Mapping[float, list[float]]:
    starts: dict[float, list[float]] = {}
    for number, moment in marks:
        starts.setdefault(number, []).append(moment)
    return starts


def longest_wait(sent: Sequence[float], marks: Sequence[Mark]) -> float:
    """Seconds from the commit of a job to its first start, of the job that waited longest. `sent` is by number."""
    return max(min(moments) - sent[int(number)] for number, moments in _starts(marks).items())
