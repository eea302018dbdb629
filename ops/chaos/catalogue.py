"""Every fault there is."""

import ops.chaos.faults.callers
import ops.chaos.faults.clocks
import ops.chaos.faults.contention
import ops.chaos.faults.crashes
import ops.chaos.faults.deploys
import ops.chaos.faults.disks
import ops.chaos.faults.links
import ops.chaos.faults.memory
import ops.chaos.faults.operators
import ops.chaos.faults.outside
import ops.chaos.faults.postgresql
import ops.chaos.faults.processes
import ops.chaos.faults.snapshot
import ops.chaos.faults.standby
import ops.chaos.faults.subscribers
import ops.chaos.faults.valkey  # noqa: F401  # importing declares them
from ops.chaos.faults import FAULTS, Fault


def every_fault() -> dict[str, Fault]:
    """By name, in the order of their numbers."""
    return {one.name: one for one in sorted(FAULTS.values(), key=lambda one: one.id)}
