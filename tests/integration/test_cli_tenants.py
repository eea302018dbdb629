"""`longshore tenants`: made once, given a plan, suspended and let on again; each act is audited."""

from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from sqlalchemy import Engine

from domain.audit import ActFilter, list_acts
from domain.errors import TenantSuspended
from domain.job_kinds import MailOrderConfirmed
from domain.jobs.queries import queue_depths
from domain.tenants.callers import Caller
from domain.tenants.config import list_config, read_config
from domain.tenants.config_rules import LEGACY_WEBHOOK_HEADERS, MAIL_FROM
from domain.tenants.key_rules import parse_key
from domain.tenants.keys import create_key, find_caller
from domain.webhooks.endpoints import create_endpoint, subscriber
from ops.cli import tenants
from ops.dev.environment import ensure_keys, write_env_file
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    accepted,
    an_order,
    emptied_database,
    module_database,
    resources,
    running,
)
from tests.integration.command_line import Stage
from workers.clients.mailer import Mailer
from workers.context import JobContext
from workers.handlers.email import mail_order_confirmed

#: The stage's SECRET_KEY.
KEY = bytes(32)


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


def test_hosts_are_written_in_lower_case_and_are_hosts(stage: Stage) -> None:
    made = stage.json(tenants.app, "create", "globex", "--subdomain", "Globex", "--domain", "Shop.Globex.example")
    assert (made["subdomain"], made["domain"]) == ("globex", "shop.globex.example")
    for wrong in (["--subdomain", "a.b"], ["--subdomain", "-a"], ["--domain", "globex"], ["--domain", "a..b"]):
        assert stage.run(tenants.app, "create", "other", *wrong).exit_code == 2


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


def test_what_is_set_is_read_by_who_acts_for_that_tenant_alone_and_unset_it_is_the_default_again(stage: Stage) -> None:
    other = stage.json(tenants.app, "create", "globex")["id"]

    def older_headers(tenant_id: UUID) -> bool:
        with stage.engine.begin() as tx:
            row, _ = create_endpoint(tx, KEY, tenant_id, "https://example.com", ["*"], None)
            found = subscriber(tx, KEY, tenant_id, row.id)
            assert found
            return found.older_headers

    assert older_headers(stage.tenant_id) is True
    stage.json(tenants.app, "set", "acme", LEGACY_WEBHOOK_HEADERS, "off", "--by", "olga")
    assert (older_headers(stage.tenant_id), older_headers(UUID(other))) == (False, True)
    assert acts(stage, "config.set") == [("olga", None, {"value": False, "encrypted": False})]
    stage.json(tenants.app, "unset", "acme", LEGACY_WEBHOOK_HEADERS)
    assert older_headers(stage.tenant_id) is True
    assert stage.run(tenants.app, "unset", "acme", LEGACY_WEBHOOK_HEADERS).exit_code == 3


def test_a_tenants_mails_come_from_the_address_it_has_set_and_the_others_from_ours(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_product(stage.engine, stage.tenant_id)
    (order,) = accepted(stage.engine, [an_order(stage.tenant_id)])
    sent: list[EmailMessage] = []
    monkeypatch.setattr(Mailer, "send", lambda _self, mail, **_: sent.append(mail))

    def sender() -> object:
        job = running(stage.engine, stage.tenant_id, MailOrderConfirmed(order.order_id))
        ctx = JobContext(job, resources(stage.engine), 10.0)
        mail_order_confirmed(MailOrderConfirmed(order.order_id), ctx)
        ctx.close()
        return sent[-1]["From"]

    assert sender() is None
    stage.json(tenants.app, "set", "acme", MAIL_FROM, "berth@harbour.example", "--encrypt")
    assert sender() == "berth@harbour.example"


def test_a_sealed_value_is_readable_neither_in_the_table_nor_in_the_log_nor_on_the_screen(stage: Stage) -> None:
    stage.json(tenants.app, "set", "acme", MAIL_FROM, "berth@harbour.example", "--encrypt")
    with stage.engine.begin() as tx:
        stored = tx.exec_driver_sql("SELECT value::text, is_encrypted FROM system_config").one()
        assert ("harbour" in stored[0], stored[1]) == (False, True)
        assert read_config(tx, KEY, stage.tenant_id, MAIL_FROM) == "berth@harbour.example"
        with pytest.raises(InvalidTag):
            read_config(tx, bytes([1] * 32), stage.tenant_id, MAIL_FROM)
    assert "harbour" not in str(acts(stage, "config.set"))
    shown = {row["key"]: row["value"] for row in stage.json(tenants.app, "config", "acme")}
    assert shown == {MAIL_FROM: "(sealed)", LEGACY_WEBHOOK_HEADERS: None}


@pytest.mark.parametrize(
    ("key", "value"),
    [("mail.from", "nobody"), ("mail.from", "a@b.example, c@d.example"), (LEGACY_WEBHOOK_HEADERS, "maybe"),
     (LEGACY_WEBHOOK_HEADERS, "101%"), ("flags.unknown", "on")],
)  # fmt: skip
def test_a_key_or_a_value_that_makes_no_sense_is_refused(stage: Stage, key: str, value: str) -> None:
    refused = stage.run(tenants.app, "set", "acme", key, value)
    assert (refused.exit_code, key in refused.stderr) == (2, True)
    with stage.engine.begin() as tx:
        assert list_config(tx, stage.tenant_id) == []


def test_the_keys_of_up_are_kept_while_its_tenant_is_suspended(stage: Stage, tmp_path: Path) -> None:
    keys = ensure_keys(stage.database_url, tmp_path / "dev.env")
    write_env_file(tmp_path / "dev.env", keys)
    stage.json(tenants.app, "suspend", "default", "--yes")
    assert ensure_keys(stage.database_url, tmp_path / "dev.env") == keys


def test_nobody_is_suspended_unasked_and_a_name_that_nobody_has_is_not_found(stage: Stage) -> None:
    asked = stage.run(tenants.app, "suspend", "acme")
    assert (asked.exit_code, "Suspend tenant acme?" in asked.stderr) == (6, True)
    for words in (("suspend", "nobody", "--yes"), ("resume", "nobody"), ("change", "nobody", "--plan", "pro")):
        assert stage.run(tenants.app, *words).exit_code == 3
    assert caller(stage).tenant_id == stage.tenant_id
