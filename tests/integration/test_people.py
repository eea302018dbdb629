"""`longshore users`, and what leaves by itself: people made by an operator log in, expired tokens are swept."""

import json
from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from domain.tenants import passwords
from domain.tenants.log_ins import Door, count_try, find_candidate
from domain.tenants.password_resets import make_reset
from domain.tenants.passwords import is_password
from domain.tenants.refresh_tokens import start_family
from ops.cli import users
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    emptied_database,
    execute,
    module_database,
    rows,
    scalar,
)
from tests.integration.command_line import Stage
from workers.retention import retain

PASSWORD = "correct horse"
ADA = ("--email", " Ada@Example.com", "--name", "Ada", "--tenant", "acme")


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


def run(stage: Stage, *words: str, typed: str = "", status: int = 0) -> Result:
    result = CliRunner().invoke(users.app, list(words), input=typed, env=stage.environ, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def made(stage: Stage, *words: str, password: str = PASSWORD) -> Any:
    return json.loads(run(stage, "create", *(words or ADA), "--json", typed=f"{password}\n").stdout)


def opens(stage: Stage, password: str) -> bool:
    with stage.engine.begin() as tx:
        candidate = find_candidate(tx, "ada@example.com", Door(stage.tenant_id))
    return candidate is not None and is_password(candidate.password_hash, password)


def acts(stage: Stage) -> list[tuple[str, str, Any]]:
    found = rows(stage.engine, "SELECT actor, action, detail FROM audit_log ORDER BY position")
    return [(actor.partition("@")[0], action, detail) for actor, action, detail in found]


class TestCommands:
    def test_the_first_owner_of_a_tenant_is_made_and_can_log_in(self, stage: Stage) -> None:
        shown = made(stage, *ADA, "--role", "owner")
        assert (shown["email"], shown["role"], shown["status"]) == ("ada@example.com", "owner", "active")
        assert "passwordHash" not in shown
        assert opens(stage, PASSWORD)
        facts = {"name": "Ada", "role": "owner", "permissions": [], "status": "active"}
        assert acts(stage) == [("olga", "user.created", {"new": facts})]
        assert rows(stage.engine, "SELECT kind, state FROM jobs") == [("email.welcome", "queued")]

    def test_no_output_shows_a_password_or_its_hash(self, stage: Stage) -> None:
        result = run(stage, "create", *ADA, typed=f"{PASSWORD}\n")
        for shown in (result, run(stage, "list", "--tenant", "acme"), run(stage, "list", "--tenant", "acme", "--json")):
            assert PASSWORD not in shown.output
            assert "argon2" not in shown.output

    @pytest.mark.parametrize(
        ("words", "password"),
        [
            (("--email", "ada", "--name", "Ada"), PASSWORD),
            (("--email", "ada@example.com", "--name", ""), PASSWORD),
            (("--email", "ada@example.com", "--name", "Ada", "--role", "king"), PASSWORD),
            (("--email", "ada@example.com", "--name", "Ada"), "1234567"),
            (("--email", "ada@example.com", "--name", "Ada"), "x" * 101),
            (("--email", "ada@example.com", "--name", "Ada"), ""),
        ],
    )
    def test_what_the_api_would_refuse_is_refused(self, stage: Stage, words: tuple[str, ...], password: str) -> None:
        run(stage, "create", *words, typed=password, status=2)
        assert scalar(stage.engine, "SELECT count(*) FROM users") == 0

    def test_an_address_is_taken_once(self, stage: Stage) -> None:
        made(stage)
        assert "exists already" in run(stage, "create", *ADA, typed=PASSWORD, status=1).stderr

    def test_a_person_is_disabled_enabled_and_given_another_role(self, stage: Stage) -> None:
        made(stage, *ADA, "--role", "admin")
        name = ("ada@example.com", "--tenant", "acme")
        run(stage, "disable", *name, status=6)
        assert opens(stage, PASSWORD), "there was nobody to ask"
        run(stage, "disable", *name, "--yes", "--by", "bob")
        assert not opens(stage, PASSWORD)
        run(stage, "enable", *name)
        assert opens(stage, PASSWORD)
        assert (
            json.loads(run(stage, "role", "ADA@example.com", "viewer", *name[1:], "--json").stdout)["role"] == "viewer"
        )
        run(stage, "role", "ada@example.com", "viewer", *name[1:])
        assert acts(stage)[1:] == [
            ("bob", "user.changed", {"old": {"status": "active"}, "new": {"status": "disabled"}}),
            ("olga", "user.changed", {"old": {"status": "disabled"}, "new": {"status": "active"}}),
            ("olga", "user.changed", {"old": {"role": "admin"}, "new": {"role": "viewer"}}),
        ]

    def test_the_last_owner_stays(self, stage: Stage) -> None:
        made(stage, *ADA, "--role", "owner")
        refused = run(stage, "disable", "ada@example.com", "--tenant", "acme", "--yes", status=6)
        assert "last active owner" in refused.stderr
        run(stage, "role", "ada@example.com", "viewer", "--tenant", "acme", status=6)

    def test_a_new_password_ends_every_log_in_and_a_lock(self, stage: Stage) -> None:
        made(stage)
        user_id = scalar(stage.engine, "SELECT id FROM users")
        with stage.engine.begin() as tx:
            start_family(tx, stage.tenant_id, user_id, timedelta(days=1))
            count_try(tx, "ada@example.com")
        run(stage, "password", "ada@example.com", "--tenant", "acme", typed="another horse\n")
        assert opens(stage, "another horse")
        assert not opens(stage, PASSWORD)
        assert scalar(stage.engine, "SELECT count(*) FROM refresh_tokens WHERE revoked_at IS NULL") == 0
        assert scalar(stage.engine, "SELECT count(*) FROM login_failures") == 0
        assert acts(stage)[-1] == ("olga", "user.password_set", None)

    def test_who_is_not_there_is_not_found(self, stage: Stage) -> None:
        for words in (("enable", "eve@example.com"), ("role", "eve@example.com", "viewer"), ("list",)):
            run(stage, *words, "--tenant", "nobody", status=3)
        run(stage, "enable", "eve@example.com", "--tenant", "acme", status=3)
        run(stage, "password", "eve@example.com", "--tenant", "acme", typed=PASSWORD, status=3)


class TestRetention:
    def test_what_has_run_out_leaves_and_what_is_good_stays(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.retention.BATCH", 2)
        made(stage)
        user_id = scalar(stage.engine, "SELECT id FROM users")
        tables = {"refresh_tokens": "expires_at", "password_resets": "expires_at", "login_failures": "last_at"}
        for expired in (True, False):
            with stage.engine.begin() as tx:
                for number in range(5):
                    start_family(tx, stage.tenant_id, user_id, timedelta(days=1))
                    make_reset(tx, stage.tenant_id, user_id)
                    count_try(tx, f"{expired}-{number}")
            if expired:
                for table, column in tables.items():
                    execute(stage.engine, f"UPDATE {table} SET {column} = now() - interval '16 minutes'")
        assert retain(stage.engine, 30).expired_deleted == 15
        assert [scalar(stage.engine, f"SELECT count(*) FROM {table}") for table in tables] == [5, 5, 5]
        assert retain(stage.engine, 30).expired_deleted == 0
