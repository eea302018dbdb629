"""A forgotten password: the same answer to everybody, a token by mail that opens once, and every log-in over."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from httpx import Response

import api.ring
import api.routes.auth
from domain.ids import new_id
from domain.jobs.retry_policy import DependencyDown
from domain.lanes.lanes import SMTP
from domain.tenants.password_resets import make_reset
from domain.tenants.passwords import hash_password
from domain.tenants.users import set_password
from tests.integration.api.people import PASSWORD, Employee, post
from tests.integration.api.shop import Customer, error_of, fields_of
from workers.clients.mailer import Mailer

NEW = "a new password"


@pytest.fixture(autouse=True)
def mails(monkeypatch: pytest.MonkeyPatch) -> list[EmailMessage]:
    """What was sent."""
    sent: list[EmailMessage] = []
    monkeypatch.setattr(Mailer, "send", lambda _mailer, mail, **_: sent.append(mail))
    return sent


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.routes.auth, "ANSWER_AFTER_S", 0.0)


@pytest.fixture
def ada(customer: Customer) -> Employee:
    return Employee(customer, "operator")


def ask(ada: Employee, email: str | None = None) -> Response:
    return post(ada.customer, "/auth/password-reset", {"email": email or ada.email})


def confirm(ada: Employee, token: str, password: str = NEW) -> Response:
    return post(ada.customer, "/auth/password-reset/confirm", {"token": token, "password": password})


def _jobs(ada: Employee) -> list[UUID]:
    sql = "SELECT array_agg(id ORDER BY id) FROM jobs WHERE tenant_id = :id AND kind = 'email.password_reset'"
    return ada.shop.scalar(sql, id=ada.customer.tenant_id) or []


def _made(ada: Employee) -> str:
    with ada.shop.engine.begin() as tx:
        return make_reset(tx, ada.customer.tenant_id, ada.id)


@pytest.mark.usefixtures("soon")
def test_a_mailed_token_sets_the_password_once_and_ends_every_log_in(
    ada: Employee, mails: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
    ada.log_in()
    assert ask(ada).status_code == 202
    (job_id,) = _jobs(ada)
    ada.shop.work(job_id)
    (mail,) = mails
    assert mail["To"] == ada.email
    token = re.findall(r"^[A-Za-z0-9_-]{43}$", mail.get_content(), re.MULTILINE)[0]
    response = confirm(ada, token)
    assert (response.status_code, response.content) == (204, b"")
    error_of(ada.get("/orders"), 401, "UNAUTHENTICATED")
    error_of(ada.refresh(), 401, "UNAUTHENTICATED")
    error_of(ada.log_in(), 401, "UNAUTHENTICATED")
    assert ada.log_in(NEW).status_code == 200
    error_of(confirm(ada, token, "another password"), 401, "UNAUTHENTICATED")
    assert ada.log_in(NEW).status_code == 200
    assert ada.acts() == ["user.logged_in", "user.password_reset", *["user.logged_in"] * 2]


@pytest.mark.usefixtures("soon")
def test_no_token_stands_in_a_job_and_only_its_hash_in_the_table(ada: Employee, mails: list[EmailMessage]) -> None:
    ask(ada)
    (job_id,) = _jobs(ada)
    assert ada.shop.scalar("SELECT args FROM jobs WHERE id = :id", id=job_id) == {"user_id": str(ada.id)}
    assert ada.shop.scalar("SELECT count(*) FROM password_resets WHERE user_id = :id", id=ada.id) == 0
    ada.shop.work(job_id)
    token = re.findall(r"^[A-Za-z0-9_-]{43}$", mails[0].get_content(), re.MULTILINE)[0]
    for table in ("jobs", "attempts", "outbox", "password_resets", "audit_log"):
        everything = ada.shop.scalar(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} AS t")
        assert token not in everything
    assert ada.shop.scalar("SELECT octet_length(token_hash) FROM password_resets WHERE user_id = :id", id=ada.id) == 32


def test_what_is_answered_and_when_does_not_tell_whether_the_address_is_known(
    ada: Employee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.routes.auth, "ANSWER_AFTER_S", 0.3)
    bodies = set()
    for email in (ada.email, f"{new_id()}@example.com", f" {ada.email.upper()} "):
        asked_at = time.monotonic()
        response = ask(ada, email)
        assert time.monotonic() - asked_at >= 0.3
        assert response.status_code == 202
        assert response.headers["Cache-Control"] == "no-store"
        bodies.add(response.text)
    assert len(bodies) == 1
    assert len(_jobs(ada)) == 1, "who asks twice within a minute gets one mail"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET status = 'disabled' WHERE id = :id RETURNING 1",
        "UPDATE tenants SET status = 'suspended' WHERE id = (SELECT tenant_id FROM users WHERE id = :id) RETURNING 1",
    ],
)
def test_who_may_not_come_in_gets_no_mail(ada: Employee, statement: str) -> None:
    ada.shop.scalar(statement, id=ada.id)
    assert ask(ada).status_code == 202
    assert _jobs(ada) == []


@pytest.mark.usefixtures("soon")
def test_an_attempt_that_fails_leaves_no_worse_than_a_token_that_nobody_has(
    ada: Employee, mails: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(ada)
    (job_id,) = _jobs(ada)

    def down(*_: Any, **__: Any) -> None:
        raise DependencyDown(SMTP, "away")

    monkeypatch.setattr(Mailer, "send", down)
    with pytest.raises(DependencyDown):
        ada.shop.work(job_id)
    assert mails == []
    assert ada.log_in().status_code == 200


@pytest.mark.usefixtures("soon")
def test_who_was_removed_meanwhile_gets_no_mail(ada: Employee, mails: list[EmailMessage]) -> None:
    ask(ada)
    ada.shop.scalar("DELETE FROM users WHERE id = :id RETURNING 1", id=ada.id)
    ada.shop.work(*_jobs(ada))
    assert mails == []


def test_a_token_is_good_for_half_an_hour(ada: Employee) -> None:
    token = _made(ada)
    minutes = "SELECT extract(epoch FROM expires_at - created_at) / 60 FROM password_resets WHERE user_id = :id"
    assert round(ada.shop.scalar(minutes, id=ada.id)) == 30
    ada.shop.scalar("UPDATE password_resets SET expires_at = now() WHERE user_id = :id RETURNING 1", id=ada.id)
    error_of(confirm(ada, token), 401, "UNAUTHENTICATED")
    assert ada.log_in().status_code == 200


def test_one_token_that_is_used_ends_the_others(ada: Employee) -> None:
    first, second = _made(ada), _made(ada)
    assert confirm(ada, second).status_code == 204
    error_of(confirm(ada, first), 401, "UNAUTHENTICATED")


def test_a_password_that_an_operator_sets_ends_them_all(ada: Employee) -> None:
    token = _made(ada)
    with ada.shop.engine.begin() as tx:
        set_password(tx, ada.customer.tenant_id, ada.id, hash_password(NEW))
    error_of(confirm(ada, token, "the thief's own"), 401, "UNAUTHENTICATED")
    assert ada.log_in(NEW).status_code == 200


def test_of_many_uses_at_once_one_sets_the_password(ada: Employee) -> None:
    tokens = [_made(ada), _made(ada)] * 8
    with ThreadPoolExecutor(16) as pool:
        words = [f"password {number:02}" for number in range(16)]
        responses = list(pool.map(lambda pair: confirm(ada, *pair), zip(tokens, words, strict=True)))
    (winner,) = [word for word, response in zip(words, responses, strict=True) if response.status_code == 204]
    assert {response.status_code for response in responses} == {204, 401}
    assert ada.log_in(winner).status_code == 200


def test_a_new_password_lifts_a_lock(ada: Employee) -> None:
    for _ in range(5):
        ada.log_in("wrong horse")
    error_of(ada.log_in(), 423, "ACCOUNT_LOCKED")
    assert confirm(ada, _made(ada)).status_code == 204
    assert ada.log_in(NEW).status_code == 200


def test_a_disabled_person_stays_outside(ada: Employee) -> None:
    token = _made(ada)
    ada.shop.scalar("UPDATE users SET status = 'disabled' WHERE id = :id RETURNING 1", id=ada.id)
    error_of(confirm(ada, token), 401, "UNAUTHENTICATED")


def test_a_token_that_nobody_made_costs_no_hash(ada: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.hashing.hash_password", lambda _: pytest.fail("a stranger had us work"))
    for token in ("x", "A" * 43, "' OR '1'='1"):
        error_of(confirm(ada, token), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"token": "x"}, ["password"]),
        ({"token": "x", "password": "1234567"}, ["password"]),
        ({"token": "x", "password": "x" * 101}, ["password"]),
        ({"token": "", "password": PASSWORD}, ["token"]),
        ({"token": "x", "password": PASSWORD, "userId": "x"}, ["userId"]),
    ],
    ids=str,
)
def test_a_body_of_another_shape_is_422(customer: Customer, body: dict[str, object], fields: list[str]) -> None:
    response = post(customer, "/auth/password-reset/confirm", body)
    assert fields_of(error_of(response, 422, "VALIDATION_ERROR")) == fields
