"""What one run showed, and what many showed together. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from ops.chaos.buckets import Buckets
from ops.chaos.judges import Finding
from ops.chaos.plan import Planned

#: Orders that a run must have accepted: fewer meet too little to show anything.
FEWEST = 50


class Struck(Planned, frozen=True):
    """A fault's turn as it was, and how often it took effect."""

    times: int = 0


class Verdict(msgspec.Struct, frozen=True, rename="camel"):
    """What a run showed. `findings` are broken promises: none means that all held.

    `fired` has every fault that was to strike, with how often it took effect, 0 too. `accepted_per_s` and `ended_per_s`
    count by whole seconds since the load began: orders accepted, and jobs that came to their end.
    """

    seed: int
    mutant: str
    load_seconds: float
    findings: list[Finding]
    fired: dict[str, int]
    timeline: list[Struck]
    accepted: int
    refused: int
    resolved: int
    statuses: dict[str, int]
    events: dict[str, int]
    up_after_s: float
    quiet_after_s: float
    accepted_per_s: list[int]
    ended_per_s: list[int]
    progress_after_s: float = 0.0
    #: What went in by what came out, of orders, webhooks and mails.
    buckets: dict[str, Buckets] = {}
    #: What callers and operators did, each with how it went: "cancel ok".
    operations: dict[str, int] = {}
    share_of_5xx: float = 0.0
    slowest_accepted_s: float = 0.0
    #: Orders by the status that they came to; one that failed was accepted all the same.
    orders: dict[str, int] = {}
    #: When it was run, and on which product: `product()`.
    at: str = ""
    product: str = ""
    has_standby: bool = False

    @property
    def healed_s(self) -> float:
        """When the last fault was healed: the load goes on until then, and may outlast its own time."""
        return max(self.load_seconds, *(one.ends_s for one in self.timeline), 0.0)

    @property
    def proved_nothing(self) -> bool:
        """Hardly anything was accepted, or there were faults to strike and none of them took effect."""
        return self.accepted < FEWEST or (bool(self.fired) and not any(self.fired.values()))

    @property
    def unproved(self) -> list[str]:
        """Faults that never took effect, and events that never took place: about them the run proved nothing."""
        return [name for met in (self.fired, self.events) for name, times in met.items() if not times]


class Tally(msgspec.Struct, frozen=True, rename="camel"):
    """Many runs as one. `void` are seeds that could not be carried out; they count for nothing else."""

    seeds: int
    void: int
    load_hours: float
    accepted: int
    resolved: int
    findings: int
    #: By fault: in how many runs it took effect, and how often in all.
    fired: dict[str, tuple[int, int]]
    #: By event: in how many runs it took place, and how often in all.
    events: dict[str, tuple[int, int]]


def tally_of(verdicts: Sequence[Verdict], void: int = 0) -> Tally:
    return Tally(
        seeds=len(verdicts),
        void=void,
        load_hours=sum(verdict.load_seconds for verdict in verdicts) / 3600,
        accepted=sum(verdict.accepted for verdict in verdicts),
        resolved=sum(verdict.resolved for verdict in verdicts),
        findings=sum(len(verdict.findings) for verdict in verdicts),
        fired=_over_runs([verdict.fired for verdict in verdicts]),
        events=_over_runs([verdict.events for verdict in verdicts]),
    )


def _over_runs(counts: Sequence[dict[str, int]]) -> dict[str, tuple[int, int]]:
    runs, times = Counter[str](), Counter[str]()
    for count in counts:
        runs.update({name: times_here > 0 for name, times_here in count.items()})
        times.update(count)
    return {name: (runs[name], times[name]) for name in sorted(times)}


def per_second(moments_s: Sequence[float]) -> list[int]:
    """How many moments lie in each whole second from zero to the last."""
    counted = Counter(int(moment) for moment in moments_s if moment >= 0)
    return [counted[second] for second in range(max(counted, default=-1) + 1)]


def share_of_5xx(statuses: Mapping[str, int]) -> float:
    """Of all answers, by "method route status"; a connection that did not survive is no answer."""
    answers = {what: times for what, times in statuses.items() if not what.endswith(" 0")}
    failed = sum(times for what, times in answers.items() if what.rpartition(" ")[2].startswith("5"))
    return failed / (sum(answers.values()) or 1)
