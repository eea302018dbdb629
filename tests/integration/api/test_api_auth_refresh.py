"""Refresh tokens: each is good once, and one that is used twice ends the log-in, whoever was first."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

import api.ring
from domain.database import connect
from domain.roles import API
from domain.tenants.refresh_tokens import RefreshToken, Reuse, end_family, replace_if_unused, start_family
from tests.integration.api.people import Employee, part_of, post
from tests.integration.api.shop import V1, Customer, error_of, fields_of


@pytest.fixture
def ada(customer: Customer) -> Employee:
    ada = Employee(customer, "operator")
    assert ada.log_in().status_code == 200
    return ada


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is remembered from one request to the next."""
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)


def _family(ada: Employee) -> UUID:
    return UUID(part_of(ada.tokens["access_token"], 1)["sid"])


def test_each_use_replaces_the_token_within_the_same_log_in(ada: Employee) -> None:
    seen, family = {ada.tokens["refresh_token"]}, _family(ada)
    for _ in range(3):
        response = ada.refresh()
        assert response.status_code == 200, response.text
        assert response.headers["Cache-Control"] == "no-store"
        ada.tokens = response.json()["data"]
        assert ada.tokens.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
        assert _family(ada) == family
        seen.add(ada.tokens["refresh_token"])
        assert ada.get("/orders").status_code == 200
    assert len(seen) == 4
    sql = "SELECT count(DISTINCT expires_at) FROM refresh_tokens WHERE family = :family"
    assert ada.shop.scalar(sql, family=family) == 1, "a log-in does not grow longer by being used"


def test_new_access_tokens_say_what_the_person_may_do_by_then(ada: Employee) -> None:
    ada.shop.scalar("UPDATE users SET role = 'viewer' WHERE id = :id RETURNING 1", id=ada.id)
    assert part_of(ada.refresh().json()["data"]["access_token"], 1)["role"] == "viewer"


@pytest.mark.usefixtures("forgetful")
def test_a_token_that_is_used_twice_ends_the_log_in_and_the_newest_token_is_dead_too(ada: Employee) -> None:
    first = ada.tokens["refresh_token"]
    ada.log_in()
    elsewhere = ada.tokens
    newest = ada.refresh(first).json()["data"]
    error_of(ada.refresh(first), 401, "UNAUTHENTICATED")
    error_of(ada.refresh(newest["refresh_token"]), 401, "UNAUTHENTICATED")
    error_of(ada.get("/orders", newest["access_token"]), 401, "UNAUTHENTICATED")
    assert ada.get("/orders", elsewhere["access_token"]).status_code == 200, "another log-in is not touched"
    assert ada.acts() == ["user.logged_in", "user.logged_in", "user.refresh_token_reused"]


def test_of_64_uses_at_once_at_most_one_wins_and_nobody_goes_on_with_it(ada: Employee) -> None:
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(ada.refresh, [ada.tokens["refresh_token"]] * 64))
    won = [response.json()["data"] for response in responses if response.status_code == 200]
    assert len(won) == 1
    error_of(ada.refresh(won[0]["refresh_token"]), 401, "UNAUTHENTICATED")
    alive = "SELECT count(*) FROM refresh_tokens WHERE family = :family AND revoked_at IS NULL AND used_at IS NULL"
    assert ada.shop.scalar(alive, family=_family(ada)) == 0
    assert ada.acts().count("user.refresh_token_reused") == 1


def test_a_token_that_is_made_while_its_family_is_ended_is_dead(ada: Employee) -> None:
    """The end commits first and cannot see the new token; the new token finds the end all the same."""
    tenant_id = ada.customer.tenant_id
    engine = connect(ada.shop.settings.database_url, process="test", role=API.name)
    with engine.begin() as tx:
        first = start_family(tx, tenant_id, ada.id, timedelta(days=1))
    with engine.begin() as tx:
        older = replace_if_unused(tx, first.token)
    assert isinstance(older, RefreshToken)
    with engine.connect() as late, late.begin():
        newest = replace_if_unused(late, older.token)
        with engine.begin() as tx:
            tx.execute(text("SET LOCAL lock_timeout = '5s'"))
            tx.execute(
                text("UPDATE refresh_tokens SET revoked_at = now() WHERE token_hash = (SELECT token_hash FROM"
                     " refresh_tokens WHERE family = :family AND used_at IS NOT NULL ORDER BY created_at LIMIT 1)"),
                {"family": first.family},
            )  # fmt: skip
    assert isinstance(newest, RefreshToken)
    with engine.begin() as tx:
        assert replace_if_unused(tx, newest.token) is None
    engine.dispose()


def test_a_family_that_was_ended_is_not_said_to_be_reused(ada: Employee) -> None:
    used = ada.tokens["refresh_token"]
    ada.refresh()
    with ada.shop.engine.begin() as tx:
        end_family(tx, ada.customer.tenant_id, _family(ada))
        assert replace_if_unused(tx, used) is None
    with ada.shop.engine.begin() as tx:
        fresh = start_family(tx, ada.customer.tenant_id, ada.id, timedelta(days=1))
        assert isinstance(replace_if_unused(tx, fresh.token), RefreshToken)
        assert isinstance(replace_if_unused(tx, fresh.token), Reuse)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE refresh_tokens SET expires_at = now() WHERE user_id = :id",
        "UPDATE users SET status = 'disabled' WHERE id = :id",
        "DELETE FROM users WHERE id = :id",
    ],
)
def test_what_has_expired_or_is_nobodys_any_more_is_refused(ada: Employee, statement: str) -> None:
    with ada.shop.engine.begin() as tx:
        tx.execute(text(statement), {"id": ada.id})
    error_of(ada.refresh(), 401, "UNAUTHENTICATED")
    assert "user.refresh_token_reused" not in ada.acts()


def test_who_is_enabled_again_goes_on_where_he_was(ada: Employee) -> None:
    """A refusal for another reason does not use the token up."""
    tenant_id = ada.customer.tenant_id
    ada.shop.scalar("UPDATE tenants SET status = 'suspended' WHERE id = :id RETURNING 1", id=tenant_id)
    error_of(ada.refresh(), 403, "TENANT_SUSPENDED")
    ada.shop.scalar("UPDATE tenants SET status = 'active' WHERE id = :id RETURNING 1", id=tenant_id)
    assert ada.refresh().status_code == 200


@pytest.mark.parametrize("token", ["x", "' OR '1'='1", "longshore_refresh_", "é"])
def test_junk_is_refused(ada: Employee, token: str) -> None:
    error_of(ada.refresh(token), 401, "UNAUTHENTICATED")
    error_of(ada.refresh(ada.tokens["access_token"][:200]), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize("body", [{}, {"refresh_token": "x"}, {"refreshToken": ""}, {"refreshToken": None}])
def test_a_body_of_another_shape_is_422(customer: Customer, body: dict[str, object]) -> None:
    error = error_of(post(customer, "/auth/refresh", body), 422, "VALIDATION_ERROR")
    assert "refreshToken" in fields_of(error)
    error_of(customer.shop.client.get(f"{V1}/auth/refresh"), 405, "METHOD_NOT_ALLOWED")
