"""Log-ins: the right password opens, five wrong ones close, and nobody learns which addresses belong to somebody."""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio
import psycopg
import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from httpx import Response
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import OperationalError
from structlog.typing import EventDict

import api.hashing
import api.log_ins
import api.ring
import api.token_ring
from api.hashing import Hashing
from api.tokens import AccessTokens, derived_seed
from domain.audit import verify_chains
from domain.errors import LogInRefused, TooManyPasswords
from domain.ids import new_id
from domain.tenants import passwords
from domain.tenants.log_ins import Candidate, Door, find_candidate, find_person
from domain.tenants.permission_rules import ROLES
from tests.end_to_end.running import wait_until
from tests.integration.api.people import PASSWORD, Employee, acts_on, log_in, part_of, post
from tests.integration.api.shop import V1, Customer, error_of, fields_of

WRONG = "wrong horse"


@pytest.fixture
def ada(customer: Customer) -> Employee:
    return Employee(customer, "operator")


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is remembered from one request to the next."""
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)


def test_the_right_password_gets_the_tokens_of_the_contract(ada: Employee) -> None:
    response = ada.log_in()
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["success"] is True
    data = response.json()["data"]
    assert data.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert (data["expires_in"], data["token_type"]) == (900, "Bearer")
    claims = part_of(data["access_token"], 1)
    assert (claims["sub"], claims["tenantId"]) == (str(ada.id), str(ada.customer.tenant_id))
    assert (claims["email"], claims["role"]) == (ada.email, "operator")
    assert claims["permissions"] == sorted(ROLES["operator"])
    assert ada.shop.scalar("SELECT last_login_at > created_at FROM users WHERE id = :id", id=ada.id)
    assert ada.acts() == ["user.logged_in"]


def test_a_token_opens_what_the_role_may_do_and_nothing_else(ada: Employee) -> None:
    assert ada.get("/orders").status_code == 200
    assert ada.get("/admin/dead-letters").status_code == 200
    error_of(ada.get("/users"), 403, "FORBIDDEN")
    error_of(ada.send("POST", "/products", {"sku": "A", "name": "A", "price": 1}), 403, "FORBIDDEN")


def test_a_token_is_for_the_bearer_header_and_for_its_own_tenant(ada: Employee, other: Customer) -> None:
    ada.log_in()
    token = ada.tokens["access_token"]
    for headers in ({"X-API-Key": token}, {"Authorization": f"Basic {token}"}, {"Authorization": token}):
        error_of(ada.shop.client.get(f"{V1}/orders", headers=headers), 401, "UNAUTHENTICATED")
    refresh = ada.tokens["refresh_token"]
    error_of(ada.get("/orders", refresh), 401, "UNAUTHENTICATED")
    assert ada.get("/orders", **{"X-Tenant-ID": str(ada.customer.tenant_id)}).status_code == 200
    error_of(ada.get("/orders", **{"X-Tenant-ID": str(other.tenant_id)}), 403, "TENANT_MISMATCH")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-8] + "AAAAAAAA",
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.upper(),
        lambda token: f"{token}.{token}",
        lambda _: "eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_a_spoilt_token_opens_nothing(ada: Employee, spoil: Callable[[str], str]) -> None:
    ada.log_in()
    response = ada.get("/orders", spoil(ada.tokens["access_token"]))
    error_of(response, 401, "UNAUTHENTICATED")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


def test_a_well_signed_token_without_a_log_in_behind_it_opens_nothing(ada: Employee) -> None:
    """As of a family that retention has swept, or by somebody who has the key and not the database."""
    settings = ada.shop.settings
    signer = AccessTokens([derived_seed(settings.secret_bytes)], settings.access_lifetime)
    with ada.shop.engine.connect() as connection:
        candidate = find_candidate(connection, ada.email, Door(ada.customer.tenant_id))
    assert candidate is not None
    forged, _ = signer.sign(candidate.person, new_id(), datetime.now(UTC) + timedelta(days=1))
    error_of(ada.get("/orders", forged), 401, "UNAUTHENTICATED")


def test_an_expired_token_says_so_and_its_successor_opens(ada: Employee) -> None:
    ada.log_in()
    settings = ada.shop.settings
    claims = AccessTokens([derived_seed(settings.secret_bytes)], timedelta(0)).read(ada.tokens["access_token"])
    with ada.shop.engine.connect() as connection:
        person = find_person(connection, claims.tenant_id, claims.sub, claims.sid)
    assert person is not None
    signer = AccessTokens([derived_seed(settings.secret_bytes)], timedelta(minutes=-1))
    expired, _ = signer.sign(person, claims.sid, datetime.now(UTC))
    error_of(ada.get("/orders", expired), 401, "TOKEN_EXPIRED")
    assert ada.refresh().status_code == 200
    assert ada.get("/orders").status_code == 200


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("UPDATE users SET status = 'disabled' WHERE id = :id", 401, "UNAUTHENTICATED"),
        ("UPDATE users SET role = 'viewer' WHERE id = :id", 403, "FORBIDDEN"),
        ("UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = :id", 401, "UNAUTHENTICATED"),
        ("UPDATE refresh_tokens SET expires_at = now() WHERE user_id = :id", 401, "UNAUTHENTICATED"),
        ("UPDATE tenants SET status = 'suspended' WHERE id = :tenant_id", 403, "TENANT_SUSPENDED"),
        ("DELETE FROM users WHERE id = :id", 401, "UNAUTHENTICATED"),
    ],
)
def test_a_token_opens_what_its_person_may_do_now_and_not_when_it_was_made(
    ada: Employee, statement: str, status: int, code: str
) -> None:
    assert ada.get("/admin/dead-letters").status_code == 200
    with ada.shop.engine.begin() as tx:
        tx.execute(text(statement), {"id": ada.id, "tenant_id": ada.customer.tenant_id})
    error_of(ada.get("/admin/dead-letters"), status, code)
    if status == 401:
        error_of(ada.refresh(), 401, "UNAUTHENTICATED")


def test_what_was_taken_away_is_remembered_for_seconds_only(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.4)
    assert ada.get("/admin/dead-letters").status_code == 200
    ada.shop.scalar("UPDATE users SET role = 'viewer' WHERE id = :id RETURNING 1", id=ada.id)
    changed_at = time.monotonic()
    while ada.get("/admin/dead-letters").status_code == 200:
        assert time.monotonic() - changed_at < 2.0


@pytest.mark.parametrize(
    "body",
    [
        {"email": "ada@example.com", "password": WRONG},
        {"email": "nobody@example.com", "password": PASSWORD},
        {"email": "ADA@example.com", "password": PASSWORD.upper()},
        {"email": "ada@example.com", "password": f"{PASSWORD} "},
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_in_the_same_words(customer: Customer, body: dict[str, str]) -> None:
    Employee(customer, email="ada@example.com")
    response = post(customer, "/auth/login", body, **_of(customer))
    assert error_of(response, 401, "UNAUTHENTICATED")["message"] == str(LogInRefused())
    assert response.headers["WWW-Authenticate"]


def _of(customer: Customer) -> dict[str, str]:
    return {"X-Tenant-ID": str(customer.tenant_id)}


def test_an_address_is_trimmed_and_its_case_does_not_matter(customer: Customer) -> None:
    ada = Employee(customer)
    assert log_in(customer, f"  {ada.email.upper()}\t").status_code == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["email", "password"]),
        ({"email": "ada", "password": PASSWORD}, ["email"]),
        ({"email": "ada@example.com", "password": ""}, ["password"]),
        ({"email": "ada@example.com", "password": "x" * 101}, ["password"]),
        ({"email": "ada@example.com", "password": PASSWORD, "role": "owner"}, ["role"]),
        ({"email": ["ada@example.com"], "password": {"$ne": ""}}, ["email", "password"]),
        ({"email": "ada@example.com\u0000", "password": "\u0000" * 9}, ["email", "password"]),
    ],
    ids=str,
)
def test_a_body_of_another_shape_is_422(customer: Customer, body: dict[str, object], fields: list[str]) -> None:
    assert fields_of(error_of(post(customer, "/auth/login", body), 422, "VALIDATION_ERROR")) == fields


def test_the_entrance_takes_json_only_and_no_unknown_parameter(customer: Customer) -> None:
    client, url = customer.shop.client, f"{V1}/auth/login"
    error_of(
        client.post(url, content=b"email=a", headers={"Content-Type": "text/plain"}), 415, "UNSUPPORTED_MEDIA_TYPE"
    )
    error_of(client.post(url, content=b"{", headers={"Content-Type": "application/json"}), 400, "MALFORMED_JSON")
    error_of(client.post(f"{url}?email=a", json={}), 400, "VALIDATION_ERROR")
    response = log_in(customer, "ada@example.com", X_Tenant_ID="acme")
    assert fields_of(error_of(response, 400, "VALIDATION_ERROR")) == ["X-Tenant-ID"]


def test_an_address_of_two_tenants_says_which_one_it_means(customer: Customer, other: Customer) -> None:
    email = f"{new_id()}@example.com"
    here, there = Employee(customer, email=email), Employee(other, email=email)
    error_of(here.log_in(), 401, "UNAUTHENTICATED")
    for one in (here, there):
        assert one.log_in(X_Tenant_ID=str(one.customer.tenant_id)).status_code == 200
        assert one.get("/users/me").json()["data"]["id"] == str(one.id)
    error_of(here.log_in(X_Tenant_ID=str(uuid4())), 401, "UNAUTHENTICATED")
    there.shop.scalar("UPDATE users SET status = 'disabled' WHERE id = :id RETURNING 1", id=there.id)
    assert here.log_in().status_code == 200


def test_the_tenant_whose_host_was_called_is_meant(customer: Customer, other: Customer) -> None:
    # Given somebody in two tenants, of which one has a subdomain and the other a domain of its own
    email, label = f"{new_id()}@example.com", f"t{new_id()}"
    here, there = Employee(customer, email=email), Employee(other, email=email)
    domain = f"{label}.shop.example"
    for column, value, one in (("subdomain", label, here), ("domain", domain, there)):
        statement = f"UPDATE tenants SET {column} = :value WHERE id = :id RETURNING 1"  # names of this test
        one.shop.scalar(statement, value=value, id=one.customer.tenant_id)
    # Then the host says which is meant, the longer name before the shorter, and X-Tenant-ID before both
    for host, one in ((f"{label}.example.com", here), (f"{label.upper()}.example.com:8000", here), (domain, there)):
        assert one.log_in(Host=host).status_code == 200
        assert one.get("/users/me").json()["data"]["id"] == str(one.id)
    assert there.log_in(Host=f"{label}.example.com", X_Tenant_ID=str(other.tenant_id)).status_code == 200
    assert there.get("/users/me").json()["data"]["id"] == str(there.id)
    # And who is in one tenant only does not come in by another's host
    alone = Employee(other)
    error_of(alone.log_in(Host=f"{label}.example.com"), 401, "UNAUTHENTICATED")
    assert alone.log_in(Host="anywhere.example.com").status_code == 200


def test_a_person_of_a_suspended_tenant_is_told_so_if_the_password_is_his(ada: Employee) -> None:
    ada.shop.scalar("UPDATE tenants SET status = 'suspended' WHERE id = :id RETURNING 1", id=ada.customer.tenant_id)
    error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    error_of(ada.log_in(), 403, "TENANT_SUSPENDED")


def test_five_failures_in_a_row_lock_also_the_right_password_out(ada: Employee) -> None:
    for _ in range(5):
        error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    error_of(ada.log_in(WRONG), 423, "ACCOUNT_LOCKED")
    error_of(ada.log_in(), 423, "ACCOUNT_LOCKED")
    assert _locked_for_minutes(ada) == 15
    assert ada.acts() == ["user.locked"]


def test_a_lock_ends_by_itself_and_the_count_starts_again(ada: Employee) -> None:
    for _ in range(5):
        ada.log_in(WRONG)
    _let_pass(ada, "14 minutes 50 seconds")
    error_of(ada.log_in(), 423, "ACCOUNT_LOCKED")
    _let_pass(ada, "15 seconds")
    for _ in range(4):
        error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    assert ada.log_in().status_code == 200
    assert _failures(ada) is None


def test_a_success_forgets_the_failures_and_so_does_time(ada: Employee) -> None:
    for _ in range(3):
        for _ in range(4):
            ada.log_in(WRONG)
        assert ada.log_in().status_code == 200
    for _ in range(4):
        ada.log_in(WRONG)
    _let_pass(ada, "16 minutes")
    error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    assert _failures(ada) == 1


def _let_pass(ada: Employee, time_: str) -> None:
    ada.shop.scalar(
        "UPDATE login_failures SET last_at = last_at - CAST(:t AS interval),"
        " locked_until = locked_until - CAST(:t AS interval) WHERE address_hash = :hash RETURNING 1",
        t=time_,
        hash=hashlib.sha256(ada.email.encode()).digest(),
    )


def _failures(ada: Employee) -> int | None:
    found: int | None = ada.shop.scalar(
        "SELECT failures FROM login_failures WHERE address_hash = :hash",
        hash=hashlib.sha256(ada.email.encode()).digest(),
    )
    return found


def _locked_for_minutes(ada: Employee) -> int:
    sql = "SELECT extract(epoch FROM locked_until - last_at) / 60 FROM login_failures WHERE address_hash = :hash"
    minutes = float(ada.shop.scalar(sql, hash=hashlib.sha256(ada.email.encode()).digest()))
    return round(minutes)


def test_64_wrong_log_ins_at_once_try_five_passwords(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def is_password(_hashed: str | None, password: str) -> bool:
        tried.append(password)
        return False

    monkeypatch.setattr(api.hashing, "is_password", is_password)
    with ThreadPoolExecutor(64) as pool:
        statuses = [response.status_code for response in pool.map(ada.log_in, [f"guess {n}" for n in range(64)])]
    assert len(tried) == 5
    assert sorted(statuses) == [401] * 5 + [423] * 59
    assert ada.acts() == ["user.locked"]


@pytest.mark.parametrize("named", [False, True])
def test_strangers_are_locked_out_as_people_are(ada: Employee, other: Customer, named: bool) -> None:
    """Six tries, each under another tenant's name or none: what is answered never tells whose the address is."""

    def answers(email: str) -> list[tuple[int, str]]:
        tenants = [None, ada.customer.tenant_id, other.tenant_id, uuid4(), None, ada.customer.tenant_id, None]
        headers = [{"X_Tenant_ID": str(tenant)} if named and tenant else {} for tenant in tenants]
        responses = [log_in(ada.customer, email, WRONG, **header) for header in headers]
        return [(response.status_code, _without_ids(response)) for response in responses]

    disabled = Employee(other)
    ada.shop.scalar("UPDATE users SET status = 'disabled' WHERE id = :id RETURNING 1", id=disabled.id)
    nobody = answers(f"{new_id()}@example.com")
    assert nobody == answers(ada.email) == answers(disabled.email)
    assert [status for status, _ in nobody] == [401] * 5 + [423] * 2


def _without_ids(response: Response) -> str:
    body = response.json()
    return str({**body, "instance": "", "error": {**body["error"], "requestId": ""}})


def test_a_stranger_costs_as_much_argon2_as_a_person(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "HASHER", hasher)
    verify = PasswordHasher.verify

    def noted(own: PasswordHasher, hashed: Any, password: Any) -> bool:
        checked.append(hashed)
        return verify(own, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    for email in (ada.email, f"{new_id()}@example.com"):
        error_of(log_in(ada.customer, email, WRONG), 401, "UNAUTHENTICATED")
    person, nobody = checked
    assert person.split("$")[:4] == nobody.split("$")[:4]
    assert [len(part) for part in person.split("$")] == [len(part) for part in nobody.split("$")]
    assert not hasher.check_needs_rehash(nobody)


def test_a_hash_of_yesterdays_parameters_is_made_anew_at_the_log_in(
    ada: Employee, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "SELECT password_hash FROM users WHERE id = :id"
    before = ada.shop.scalar(sql, id=ada.id)
    assert ada.log_in().status_code == 200
    assert ada.shop.scalar(sql, id=ada.id) == before
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    assert ada.log_in().status_code == 200
    after = ada.shop.scalar(sql, id=ada.id)
    assert after.startswith("$argon2id$v=19$m=16,t=2,p=1$")
    assert ada.log_in().status_code == 200


def test_who_is_disabled_while_his_password_is_checked_does_not_come_in(
    ada: Employee, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_password(_hashed: str | None, _password: str) -> bool:
        ada.shop.scalar("UPDATE users SET status = 'disabled' WHERE id = :id RETURNING 1", id=ada.id)
        return True

    monkeypatch.setattr(api.hashing, "is_password", is_password)
    error_of(ada.log_in(), 401, "UNAUTHENTICATED")
    assert ada.shop.scalar("SELECT count(*) FROM refresh_tokens WHERE user_id = :id", id=ada.id) == 0


def test_a_crowd_at_the_door_is_turned_away_and_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.hashing, "MOST_WAITING", 0)
    with pytest.raises(TooManyPasswords):
        anyio.run(Hashing().hash, PASSWORD)


def test_a_password_that_nobody_looked_at_is_no_failure(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> bool:
        raise TooManyPasswords

    def fail(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    with monkeypatch.context() as crowd:
        crowd.setattr(api.hashing, "MOST_WAITING", 0)
        assert [ada.log_in().status_code for _ in range(6)] == [503] * 6
    with monkeypatch.context() as late_crowd:
        late_crowd.setattr(Hashing, "matches", refuse)
        assert [ada.log_in().status_code for _ in range(6)] == [503] * 6
    with monkeypatch.context() as no_memory:
        no_memory.setattr(PasswordHasher, "verify", fail)
        assert [ada.log_in().status_code for _ in range(6)] == [503] * 6
    for _ in range(4):
        error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    assert ada.log_in().status_code == 200


def test_a_try_that_took_too_long_to_be_looked_at_is_no_failure(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_late(*asked: Any) -> Candidate | None:
        gone.wait(20)
        return find_candidate(*asked)

    with monkeypatch.context() as slow:
        slow.setattr(api.ring, "LOOK_UP_WITHIN_S", 0.05)
        slow.setattr(api.log_ins, "LOOK_UP_WITHIN_S", 0.05)
        slow.setattr(api.log_ins, "find_candidate", find_late)
        for _ in range(5):
            gone = threading.Event()
            error_of(ada.log_in(), 503, "DEPENDENCY_UNAVAILABLE")
            gone.set()
    assert ada.log_in().status_code == 200


def test_a_try_whose_commit_took_too_long_is_no_failure(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_late(dialect: PGDialect_psycopg, connection: Any) -> None:
        gone.wait(20)
        commit(dialect, connection)

    commit: Any = PGDialect_psycopg.do_commit
    gone = threading.Event()
    with monkeypatch.context() as slow:
        slow.setattr(api.ring, "LOOK_UP_WITHIN_S", 0.3)
        slow.setattr(api.log_ins, "LOOK_UP_WITHIN_S", 0.3)
        slow.setattr(PGDialect_psycopg, "do_commit", commit_late)
        error_of(ada.log_in(), 503, "DEPENDENCY_UNAVAILABLE")
        gone.set()
        wait_until(lambda: failures_of(ada) == 0)
    assert ada.log_in().status_code == 200


@pytest.mark.parametrize("happened", [True, False])
def test_a_try_whose_commit_was_answered_by_nobody_takes_back_itself_and_no_other(
    ada: Employee, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    def lose(dialect: PGDialect_psycopg, connection: Any) -> None:
        lost.undo()
        if happened:
            commit(dialect, connection)
        raise psycopg.OperationalError("the connection is lost")

    commit: Any = PGDialect_psycopg.do_commit
    for _ in range(3):
        error_of(ada.log_in(WRONG), 401, "UNAUTHENTICATED")
    for _ in range(3):
        with monkeypatch.context() as lost:
            lost.setattr(PGDialect_psycopg, "do_commit", lose)
            error_of(ada.log_in(), 503, "DEPENDENCY_UNAVAILABLE")
    assert failures_of(ada) == 3
    assert ada.log_in().status_code == 200


def test_a_right_password_that_an_outage_kept_out_is_no_failure(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    def be_away(*_: object) -> None:
        raise OperationalError("", {}, psycopg.OperationalError("the connection is lost"))

    with monkeypatch.context() as away:
        away.setattr(api.log_ins, "start_family", be_away)
        assert [ada.log_in().status_code for _ in range(6)] == [503] * 6
    assert ada.log_in().status_code == 200


def failures_of(ada: Employee) -> int:
    told = hashlib.sha256(ada.email.encode()).digest()
    found: int | None = ada.shop.scalar("SELECT failures FROM login_failures WHERE address_hash = :hash", hash=told)
    return found or 0


def test_no_right_password_of_a_suspended_tenant_is_a_failure(ada: Employee) -> None:
    tenant_id = ada.customer.tenant_id
    ada.shop.scalar("UPDATE tenants SET status = 'suspended' WHERE id = :id RETURNING 1", id=tenant_id)
    for _ in range(6):
        error_of(ada.log_in(), 403, "TENANT_SUSPENDED")
    ada.shop.scalar("UPDATE tenants SET status = 'active' WHERE id = :id RETURNING 1", id=tenant_id)
    assert ada.log_in().status_code == 200


def test_no_password_no_token_and_no_address_is_logged_or_stored_in_the_clear(
    ada: Employee, logs: list[EventDict]
) -> None:
    ada.log_in(WRONG)
    ada.log_in()
    ada.refresh()
    ada.get("/users/me")
    told = str(logs)
    for secret in (WRONG, PASSWORD, ada.email, *ada.tokens.values()):
        assert str(secret) not in told or secret in {900, "Bearer"}
    stored = ada.shop.scalar("SELECT password_hash FROM users WHERE id = :id", id=ada.id)
    assert stored.startswith("$argon2id$")
    assert (
        ada.shop.scalar("SELECT octet_length(token_hash) FROM refresh_tokens WHERE user_id = :id LIMIT 1", id=ada.id)
        == 32
    )
    detail = str(ada.shop.scalar("SELECT json_agg(a) FROM audit_log AS a WHERE subject = :id", id=str(ada.id)))
    assert [secret for secret in (WRONG, PASSWORD, ada.email) if secret in detail] == []
    assert "testclient" in detail, "where the log-in came from"


def test_leaving_ends_the_log_in_at_once_and_no_other(ada: Employee) -> None:
    ada.log_in()
    elsewhere = ada.tokens
    ada.log_in()
    assert ada.get("/orders").status_code == 200
    response = ada.send("POST", "/auth/logout")
    assert (response.status_code, response.content) == (204, b"")
    error_of(ada.get("/orders"), 401, "UNAUTHENTICATED")
    error_of(ada.refresh(), 401, "UNAUTHENTICATED")
    assert ada.get("/orders", elsewhere["access_token"]).status_code == 200
    assert ada.acts() == ["user.logged_in", "user.logged_in", "user.logged_out"]


def test_a_token_of_a_log_in_that_has_ended_is_looked_up_once_in_a_while_only(
    ada: Employee, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find(*words: Any) -> Any:
        asked.append(words)
        return find_person(*words)

    ada.log_in()
    assert ada.send("POST", "/auth/logout").status_code == 204
    monkeypatch.setattr(api.token_ring, "find_person", find)
    for _ in range(3):
        error_of(ada.get("/orders"), 401, "UNAUTHENTICATED")
    assert len(asked) == 1
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
    error_of(ada.get("/orders"), 401, "UNAUTHENTICATED")
    assert len(asked) == 2


def test_a_key_cannot_leave_and_is_nobody(customer: Customer) -> None:
    error_of(customer.post("/auth/logout"), 403, "FORBIDDEN")
    error_of(customer.get("/users/me"), 403, "FORBIDDEN")
    error_of(customer.shop.client.post(f"{V1}/auth/logout"), 401, "UNAUTHENTICATED")


def test_the_acts_of_people_are_chained_as_all_others_are(ada: Employee) -> None:
    ada.log_in()
    ada.send("POST", "/auth/logout")
    with ada.shop.engine.connect() as connection:
        (chain,) = [one for one in verify_chains(connection) if one.tenant_id == ada.customer.tenant_id]
    assert (chain.length, chain.broken_at) == (2, None)
    assert acts_on(ada.customer, ada.id) == ["user.logged_in", "user.logged_out"]
