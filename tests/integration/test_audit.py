"""The audit log: acts are chained as they are committed, and whatever is done to them afterwards is found."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from domain.audit import Chain, record_act, verify_chains
from ops.cli import audit
from ops.migrate import downgrade, upgrade
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    at_once,
    emptied_database,
    execute,
    module_database,
    rows,
    scalar,
)
from tests.integration.command_line import Stage

#: Past the triggers, as somebody with every right could.
UNGUARDED = "SET LOCAL session_replication_role = replica"


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


def act(engine: Engine, tenant_id: UUID | None, *subjects: str) -> None:
    """As many acts in one transaction."""
    with engine.begin() as tx:
        for subject in subjects:
            record_act(tx, tenant_id, "olga@ops", "job.cancelled", subject, "it is stuck", {"b": 2, "a": {"c": 1.50}})


def chains(engine: Engine) -> dict[UUID | None, Chain]:
    with engine.begin() as tx:
        return {chain.tenant_id: chain for chain in verify_chains(tx)}


def forge(engine: Engine, sql: str, **values: object) -> None:
    with engine.begin() as tx:
        tx.execute(text(UNGUARDED))
        assert tx.execute(text(sql), values).rowcount == 1


def test_each_tenant_has_a_chain_and_so_has_what_concerns_none(engine: Engine, tenant_id: UUID) -> None:
    act(engine, tenant_id, "1", "2")
    act(engine, None, "webhooks")
    act(engine, tenant_id, "3")
    found = chains(engine)
    assert {of: (c.length, c.broken_at) for of, c in found.items()} == {
        tenant_id: (3, None),
        None: (1, None),
    }
    assert found[tenant_id].hash != found[None].hash
    assert [len(chain.hash) for chain in found.values()] == [32, 32]
    assert rows(engine, "SELECT subject, position FROM audit_log WHERE tenant_id = :id ORDER BY id", id=tenant_id) == [
        ("1", 1),
        ("2", 2),
        ("3", 3),
    ]


def test_acts_at_the_same_moment_stand_one_behind_the_other(engine: Engine, tenant_id: UUID) -> None:
    assert at_once(*[lambda: act(engine, tenant_id, "a", "b")] * 4) == [None] * 4
    chain = chains(engine)[tenant_id]
    assert (chain.length, chain.broken_at) == (8, None)


def test_an_act_that_was_rolled_back_leaves_no_gap(engine: Engine, tenant_id: UUID) -> None:
    with engine.connect() as connection:
        record_act(connection, tenant_id, "olga@ops", "job.cancelled", "never")
    act(engine, tenant_id, "1")
    chain = chains(engine)[tenant_id]
    assert (chain.length, chain.broken_at) == (1, None)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "UPDATE audit_log SET hash = ''",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
    ],
)
def test_the_database_refuses_to_change_what_was_recorded(engine: Engine, tenant_id: UUID, sql: str) -> None:
    act(engine, tenant_id, "1")
    with pytest.raises(DBAPIError, match="neither changed nor removed"):
        execute(engine, sql)
    assert scalar(engine, "SELECT actor FROM audit_log") == "olga@ops"


@pytest.mark.parametrize("column", ["actor", "action", "subject", "reason"])
def test_an_act_that_was_changed_is_found(engine: Engine, tenant_id: UUID, column: str) -> None:
    act(engine, tenant_id, "1", "2", "3")
    forge(engine, f"UPDATE audit_log SET {column} = 'another' WHERE position = 2")
    assert chains(engine)[tenant_id].broken_at == 2


@pytest.mark.parametrize("sql", ["UPDATE audit_log SET detail = '{}'", "UPDATE audit_log SET at = at - interval '1 s'"])
def test_so_are_other_facts_and_another_time(engine: Engine, tenant_id: UUID, sql: str) -> None:
    act(engine, tenant_id, "1", "2", "3")
    forge(engine, f"{sql} WHERE position = 3")
    assert chains(engine)[tenant_id].broken_at == 3


@pytest.mark.parametrize("position", [1, 2, 3])
def test_an_act_that_was_removed_is_missed(engine: Engine, tenant_id: UUID, position: int) -> None:
    act(engine, tenant_id, "1", "2", "3")
    forge(engine, "DELETE FROM audit_log WHERE position = :position", position=position)
    assert chains(engine)[tenant_id].broken_at in {position, position + 1}


def test_a_log_that_was_emptied_is_missed(engine: Engine, tenant_id: UUID) -> None:
    act(engine, tenant_id, "1")
    forge(engine, "DELETE FROM audit_log")
    assert chains(engine)[tenant_id].broken_at == 1


def test_an_act_that_was_slipped_in_is_found(engine: Engine, tenant_id: UUID) -> None:
    act(engine, tenant_id, "1", "2")
    forge(
        engine,
        "INSERT INTO audit_log (id, tenant_id, actor, action, subject) VALUES (uuidv7(), :id, 'x', 'y', 'z')",
        id=tenant_id,
    )
    assert chains(engine)[tenant_id].broken_at == 0


def test_what_was_recorded_before_there_were_chains_is_chained_by_the_migration(
    engine: Engine, database_url: str, tenant_id: UUID
) -> None:
    downgrade(database_url, "0005")
    insert = "INSERT INTO audit_log (id, tenant_id, actor, action, subject) VALUES (uuidv7(), :id, 'x', 'y', 'z')"
    for of in (tenant_id, None, tenant_id):
        execute(engine, insert, id=of)
    upgrade(database_url)
    act(engine, tenant_id, "1")
    assert {of: (c.length, c.broken_at) for of, c in chains(engine).items()} == {tenant_id: (3, None), None: (1, None)}


class TestCommand:
    def test_shows_acts_newest_first_and_those_that_are_asked_for(self, stage: Stage) -> None:
        act(stage.engine, stage.tenant_id, "first", "second")
        act(stage.engine, None, "webhooks")
        assert [one["subject"] for one in stage.json(audit.app, "list")] == ["webhooks", "second", "first"]
        (newest,) = stage.json(audit.app, "list", "--tenant", "acme", "--limit", "1")
        assert (newest["subject"], newest["tenant"]) == ("second", "acme")
        assert [one["subject"] for one in stage.json(audit.app, "list", "--subject", "first")] == ["first"]
        assert stage.json(audit.app, "list", "--action", "no.such") == []
        assert "it is stuck" in stage.run(audit.app, "list").stdout
        assert stage.run(audit.app, "list", "--tenant", "nobody").exit_code == 3

    def test_proves_that_nothing_was_changed_or_says_where(self, stage: Stage) -> None:
        act(stage.engine, stage.tenant_id, "first", "second")
        (chain,) = stage.json(audit.app, "verify")
        assert (chain["tenantId"], chain["length"], chain["brokenAt"]) == (str(stage.tenant_id), 2, None)
        assert len(chain["hash"]) == 64
        forge(stage.engine, "UPDATE audit_log SET actor = 'nobody' WHERE position = 2")
        broken = stage.run(audit.app, "verify")
        assert broken.exit_code == 1
        assert "BROKEN at 2" in broken.stdout
        assert "1 of 1 chains are broken" in broken.stderr
