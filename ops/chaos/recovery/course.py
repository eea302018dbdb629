"""The whole trial: one system, one part after the other."""

from ops.bench.figure import Figure
from ops.chaos.recovery.measured import figure
from ops.chaos.recovery.postgresql import postgresql_kills
from ops.chaos.recovery.relays import relay_kills
from ops.chaos.recovery.trial import CALLERS, JOBS_PER_S, PAUSE_S, WHOLE_MINUTES, Trial
from ops.chaos.recovery.valkey import flushes, valkey_kills
from ops.chaos.recovery.workers import worker_kills
from ops.chaos.strikes import Say
from ops.chaos.system import system

PARTS = (worker_kills, relay_kills, flushes, valkey_kills, postgresql_kills)


def recover(minutes: float, say: Say) -> Figure:
    """Fewer minutes mean fewer strikes, each at least once. Raises ChaosFailed when something could not be measured."""
    with system(seed=0) as running:
        trial = Trial(running, minutes / WHOLE_MINUTES, say)
        measured = [one for part in PARTS for one in part(trial)]
    load = f"Load: {CALLERS} callers who rest {PAUSE_S:g} s between orders, and {JOBS_PER_S:g} jobs per second."
    return figure(measured, [load])
