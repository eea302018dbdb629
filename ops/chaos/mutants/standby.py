"""Seeded bugs of what a primary says while its standby lacks something."""

from domain.session import Session
from ops.chaos.mutants.graft import imported, mutant, replace

_DURABLE = "accepted is durable, and decided"
_FAULTS = ["sync-wait-cancelled", "failover"]


@mutant(_DURABLE, faults=_FAULTS)
def sync_wait_warning_ignored() -> None:
    """A commit whose wait for the standby was cancelled counts as a commit."""
    replace(Session, "_hear", lambda *_: None)


@mutant(_DURABLE, faults=_FAULTS)
def replay_without_the_standby() -> None:
    """Who repeats a key is answered from a row that only the primary may have."""
    replace(imported("domain.orders.intake"), "wait_for_standby", lambda _connection: None)
