"""What a run showed, for people."""

from ops.chaos.campaign import Verdict
from ops.chaos.catalogue import every_fault
from ops.chaos.mutants import MUTANTS


def summary(verdict: Verdict) -> str:
    """A few lines: the figures, what never fired, what was broken."""
    fired = ", ".join(f"{name} {times}" for name, times in verdict.fired.items() if times)
    idle = [name for name, times in verdict.fired.items() if not times]
    rest = f"up again after {verdict.up_after_s:.1f} s, quiet after {verdict.quiet_after_s:.1f} s"
    lines = [
        f"seed {verdict.seed}: {verdict.accepted} orders accepted, {verdict.resolved} resolved by key; {rest}",
        f"  fired: {fired}",
        f"  met: {', '.join(f'{name} {times}' for name, times in verdict.events.items())}",
    ]
    lines += [f"  proved nothing about: {', '.join(idle)}"] if idle else []
    lines += [f"  BROKEN {finding.promise}: {finding.what}" for finding in verdict.findings]
    return "\n".join(lines if verdict.findings else [*lines, "  every promise held"])


def catalogue() -> str:
    """Every fault and every mutant, with what it does."""
    faults = [f"  {one.id:4} {one.name:20} {one.summary}" for one in every_fault().values()]
    mutants = [f"       {one.name:30} {one.summary}" for one in MUTANTS.values()]
    return "\n".join(["faults", *faults, "mutants", *mutants])
