"""What runs showed, for people."""

from collections.abc import Iterator

import msgspec

from ops.chaos.catalogue import every_fault
from ops.chaos.judges import JUDGES
from ops.chaos.mutants import MUTANTS
from ops.chaos.verdict import Tally, Verdict


def summary(verdict: Verdict) -> str:
    """A few lines: the figures, what never fired, what was broken."""
    struck = sum(times > 0 for times in verdict.fired.values())
    fired = ", ".join(f"{name} {times}" for name, times in verdict.fired.items() if times)
    rest = f"up again after {verdict.up_after_s:.1f} s, quiet after {verdict.quiet_after_s:.1f} s"
    lines = [
        f"seed {verdict.seed}: {verdict.accepted} orders accepted, {verdict.resolved} resolved by key; {rest}",
        *_buckets(verdict),
        f"  {struck} of {len(verdict.fired)} faults took effect: {fired}",
        f"  met: {', '.join(f'{name} {times}' for name, times in verdict.events.items() if times)}",
    ]
    lines += [f"  proved nothing about: {', '.join(verdict.unproved)}"] if verdict.unproved else []
    lines += [f"  BROKEN {finding.promise}: {finding.what}" for finding in verdict.findings]
    held = "  nothing was proved" if verdict.proved_nothing else "  every promise held"
    return "\n".join(lines if verdict.findings else [*lines, held])


def _buckets(verdict: Verdict) -> Iterator[str]:
    for what, buckets in verdict.buckets.items():
        yield f"  {what}: " + ", ".join(f"{name} {count}" for name, count in msgspec.structs.asdict(buckets).items())


def totals(tally: Tally) -> str:
    """All runs as one, with tables that can stand in a document."""
    return "\n".join(
        [
            f"{tally.seeds} seeds, {tally.load_hours:.1f} h of load, {tally.accepted:,} orders accepted, "
            f"{tally.resolved:,} unknown outcomes resolved by key, {tally.findings} broken promises"
            + (f", {tally.void} seeds void" if tally.void else ""),
            "",
            *_table("fault", "took effect", tally.fired),
            "",
            *_table("event", "took place", tally.events),
        ]
    )


def _table(what: str, how: str, counts: dict[str, tuple[int, int]]) -> Iterator[str]:
    yield f"| {what} | {how} in runs | times |"
    yield "|---|---:|---:|"
    for name, (runs, times) in counts.items():
        yield f"| {name} | {runs} | {times:,} |"


def catalogue() -> str:
    """Every fault and every mutant, with what it does, and every promise."""
    faults = [f"  {one.id:4} {one.name:26} {one.summary}" for one in every_fault().values()]
    mutants = [f"       {one.name:31} {one.summary}" for one in MUTANTS.values()]
    promises = [f"       {promise}" for promise in dict.fromkeys(promise for promise, _ in JUDGES)]
    return "\n".join(["faults", *faults, "mutants", *mutants, "promises", *promises, "       liveness"])
