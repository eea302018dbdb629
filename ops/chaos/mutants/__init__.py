"""Seeded bugs: the product, broken in one place, so that the checker can show that it would notice."""

import ops.chaos.mutants.deaths
import ops.chaos.mutants.deliveries
import ops.chaos.mutants.events
import ops.chaos.mutants.figures
import ops.chaos.mutants.intake
import ops.chaos.mutants.jobs
import ops.chaos.mutants.letters
import ops.chaos.mutants.mails
import ops.chaos.mutants.operators
import ops.chaos.mutants.outward
import ops.chaos.mutants.recovery
import ops.chaos.mutants.relay
import ops.chaos.mutants.requests
import ops.chaos.mutants.standby
import ops.chaos.mutants.stock
import ops.chaos.mutants.tenancy
import ops.chaos.mutants.transactions  # noqa: F401  # importing declares them
from ops.chaos.mutants.graft import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant"]
