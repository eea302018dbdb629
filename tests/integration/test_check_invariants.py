"""The nightly reconciliation: it succeeds on a sound database, and dies naming what is broken on another."""

import pytest
from sqlalchemy import Engine

from domain.invariants import INVARIANTS
from domain.job_kinds import CheckInvariants
from tests.integration.builders import a_product, a_tenant, execute, resources, running
from workers.context import JobContext
from workers.handlers.invariants import InvariantsBroken, check_invariants


def checked(engine: Engine) -> dict[str, int]:
    ctx = JobContext(running(engine, a_tenant(engine, "system"), CheckInvariants()), resources(engine), 60.0)
    try:
        return check_invariants(CheckInvariants(), ctx)
    finally:
        ctx.close()


def test_a_sound_database_holds_every_invariant(engine: Engine) -> None:
    a_product(engine, a_tenant(engine), units=10)
    assert checked(engine) == {"held": len(INVARIANTS)}


def test_a_counter_that_is_not_the_sum_of_its_ledger_is_named(engine: Engine) -> None:
    a_product(engine, a_tenant(engine), units=10)
    execute(engine, "UPDATE stock SET on_hand = on_hand + 1")
    with pytest.raises(InvariantsBroken, match="ledger_sums_to_stock"):
        checked(engine)
