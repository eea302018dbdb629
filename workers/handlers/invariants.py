"""The nightly reconciliation: every invariant is asked, and a broken one ends as a dead letter that names it."""

from domain.invariants import INVARIANTS, violations_of
from domain.job_kinds import CheckInvariants
from workers.context import JobContext
from workers.registry import handles


class InvariantsBroken(Exception):
    """What must hold at every moment does not; `longshore doctor` shows the rows."""


@handles(CheckInvariants)
def check_invariants(_args: CheckInvariants, ctx: JobContext) -> dict[str, int]:
    """Asked again before it gives up, so that what heals itself within minutes is no alarm."""
    for done, invariant in enumerate(INVARIANTS):
        ctx.progress(done, len(INVARIANTS), invariant.name)
        if violations_of(ctx.connection, invariant):
            raise InvariantsBroken(f"{invariant.name}: {invariant.promise} It does not hold.")
    return {"held": len(INVARIANTS)}
