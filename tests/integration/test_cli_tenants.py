"""`longshore tenants`: made once, given a plan, suspended and let on again; each act is audited."""

from typing import Any

import pytest
from sqlalchemy import Engine

from domain.audit import ActFilter, list_acts
from domain.errors import TenantSuspended
from domain.jobs.queries import queue_depths
from domain.tenants.callers import Caller
from domain.tenants.key_rules import parse_key
from domain.tenants.keys import create_key, find_caller
from ops.cli import tenants
from tests.integration.builders import emptied_database, module_database  # noqa: F401  # in place of conftest's
from tests.integration.command_line import Stage


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


def caller(stage: Stage) -> Caller:
    """Who a new key of the stage's tenant speaks for."""
    with stage.engine.begin() as tx:
        parts = parse_key(create_key(tx, stage.tenant_id, "shop", ["api"]))
        assert parts
        found = find_caller(tx, parts)
        assert found
        return found


def acts(stage: Stage, action: str) -> list[Any]:
    with stage.engine.begin() as tx:
        return [(act.actor, act.reason, act.detail) for act in list_acts(tx, ActFilter(action=action), limit=10)]


def test_a_new_one_has_its_plan_and_is_listed(stage: Stage) -> None:
    made = stage.json(tenants.app, "create", "globex", "--plan", "pro", "--subdomain", "globex", "--by", "olga")
    assert (made["name"], made["plan"], made["requestsPerMinute"], made["status"]) == ("globex", "pro", 1_000, "active")
    assert [tenant["name"] for tenant in stage.json(tenants.app, "list")] == ["acme", "globex"]
    ((actor, _, detail),) = acts(stage, "tenant.created")
    assert (actor, detail["subdomain"]) == ("olga", "globex")


@pytest.mark.parametrize("taken", [("acme",), ("other", "--subdomain", "port"), ("other", "--domain", "port.example")])
def test_what_is_taken_is_refused_and_nothing_is_made(stage: Stage, taken: tuple[str, ...]) -> None:
    stage.json(tenants.app, "create", "port", "--subdomain", "port", "--domain", "port.example")
    refused = stage.run(tenants.app, "create", *taken)
    assert refused.exit_code != 0
    assert "exists already" in refused.stderr
    assert len(stage.json(tenants.app, "list")) == 2


@pytest.mark.parametrize(
    "words", [("create", " "), ("create", "a" * 201), ("create", "a", "--plan", "gold"), ("change", "acme")]
)
def test_what_makes_no_sense_is_a_usage_error(stage: Stage, words: tuple[str, ...]) -> None:
    assert stage.run(tenants.app, *words).exit_code == 2


def test_a_plan_says_how_many_requests_its_keys_have_and_a_number_of_its_own_wins(stage: Stage) -> None:
    assert caller(stage).requests_per_minute == 100
    stage.json(tenants.app, "change", "acme", "--plan", "enterprise")
    assert caller(stage).requests_per_minute == 10_000
    stage.json(tenants.app, "change", "acme", "--requests-per-minute", 7)
    assert caller(stage).requests_per_minute == 7
    stage.json(tenants.app, "change", "acme", "--plan", "pro", "--requests-per-minute", 0)
    assert caller(stage).requests_per_minute == 1_000


def test_a_suspended_one_is_turned_away_and_what_it_has_waiting_is_held(stage: Stage) -> None:
    stage.waiting()
    with stage.engine.begin() as tx:
        assert [(row.due, row.held) for row in queue_depths(tx)] == [(1, 0)]
    suspended = stage.json(tenants.app, "suspend", "acme", "--yes", "--reason", "the bill is open")
    assert suspended["status"] == "suspended"
    with pytest.raises(TenantSuspended):
        caller(stage)
    with stage.engine.begin() as tx:
        assert [(row.due, row.held) for row in queue_depths(tx)] == [(0, 1)]
    assert stage.run(tenants.app, "suspend", "acme", "--yes").exit_code == 6
    assert stage.json(tenants.app, "resume", "acme")["status"] == "active"
    assert caller(stage).tenant_id == stage.tenant_id
    assert stage.run(tenants.app, "resume", "acme").exit_code == 6
    assert [reason for _, reason, _ in acts(stage, "tenant.suspended")] == ["the bill is open"]
    assert len(acts(stage, "tenant.resumed")) == 1


def test_nobody_is_suspended_unasked_and_a_name_that_nobody_has_is_not_found(stage: Stage) -> None:
    asked = stage.run(tenants.app, "suspend", "acme")
    assert (asked.exit_code, "Suspend tenant acme?" in asked.stderr) == (6, True)
    for words in (("suspend", "nobody", "--yes"), ("resume", "nobody"), ("change", "nobody", "--plan", "pro")):
        assert stage.run(tenants.app, *words).exit_code == 3
    assert caller(stage).tenant_id == stage.tenant_id
