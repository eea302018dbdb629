"""The people of a tenant: who may make, change and remove whom, and that no answer shows a password."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from httpx import Response

import api.ring
from domain.ids import new_id
from domain.tenants.keys import create_key
from domain.tenants.permission_rules import (
    DEAD_LETTERS_READ,
    MAY_APPOINT,
    ORDERS_READ,
    PRODUCTS_WRITE,
    ROLES,
    USERS_WRITE,
)
from tests.integration.api.people import PASSWORD, Employee, log_in, part_of
from tests.integration.api.shop import V1, Customer, Shop, error_of, fields_of, ids_of, walk
from workers.clients.mailer import Mailer

SHOWN = {
    "id", "email", "name", "role", "permissions", "status", "lastLoginAt", "version", "createdAt", "updatedAt"
}  # fmt: skip


@pytest.fixture
def owner(customer: Customer) -> Employee:
    return Employee(customer, "owner")


def body(**changes: object) -> dict[str, object]:
    return {"email": f"{new_id()}@example.com", "password": PASSWORD, "name": "Eve", **changes}


def _acts(owner: Employee, user_id: object) -> list[tuple[str, str, Any]]:
    sql = (
        "SELECT json_agg(json_build_array(actor, action, detail) ORDER BY position) FROM audit_log"
        " WHERE subject = :id AND action <> 'user.logged_in'"
    )
    return [tuple(act) for act in owner.shop.scalar(sql, id=str(user_id)) or []]


class TestMaking:
    def test_a_person_is_made_echoed_without_a_password_and_can_log_in(self, owner: Employee) -> None:
        response = owner.send("POST", "/users", body(email="  Eve@Example.COM ", role="operator"))
        assert response.status_code == 201, response.text
        data = response.json()["data"]
        assert response.json()["success"] is True
        assert data.keys() == SHOWN
        assert (data["email"], data["name"], data["role"]) == ("eve@example.com", "Eve", "operator")
        assert (data["status"], data["permissions"], data["lastLoginAt"]) == ("active", [], None)
        assert response.headers["Location"] == f"/api/v1/users/{data['id']}"
        assert "password" not in response.text
        assert "argon2" not in response.text
        named = {"X_Tenant_ID": str(owner.customer.tenant_id)}
        assert log_in(owner.customer, "EVE@example.com", **named).status_code == 200
        stored = owner.shop.scalar("SELECT password_hash FROM users WHERE id = :id", id=UUID(data["id"]))
        assert stored.startswith("$argon2id$")

    @pytest.mark.parametrize(
        ("changes", "fields"),
        [
            ({"email": "not-an-email"}, ["email"]),
            ({"email": "a@b"}, ["email"]),
            ({"email": "eve@example.com\nBcc: all@example.com"}, ["email"]),
            ({"email": f"{'x' * 64}@{'y' * 63}.{'y' * 63}.{'z' * 63}"}, ["email"]),
            ({"email": None}, ["email"]),
            ({"password": "1234567"}, ["password"]),
            ({"password": "x" * 101}, ["password"]),
            ({"password": 12345678}, ["password"]),
            ({"name": ""}, ["name"]),
            ({"name": "x" * 101}, ["name"]),
            ({"name": "\u0000 \t"}, ["name"]),
            ({"role": "superuser"}, ["role"]),
            ({"permissions": ["orders:*"]}, ["permissions[0]"]),
            ({"permissions": "orders:read"}, ["permissions"]),
            ({"passwordHash": "$argon2id$"}, ["passwordHash"]),
            ({"tenantId": "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"}, ["tenantId"]),
            ({"id": "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10", "status": "active"}, ["id", "status"]),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_refused_and_named(
        self, owner: Employee, changes: dict[str, object], fields: list[str]
    ) -> None:
        response = owner.send("POST", "/users", body(**changes))
        assert fields_of(error_of(response, 422, "VALIDATION_ERROR")) == fields

    @pytest.mark.parametrize("password", ["8 signs.", "密码" * 4, "🔑" * 8, "x" * 100, " spaces  "])
    def test_any_eight_to_a_hundred_characters_are_a_password(self, owner: Employee, password: str) -> None:
        made = body(password=password)
        assert owner.send("POST", "/users", made).status_code == 201
        assert log_in(owner.customer, str(made["email"]), password).status_code == 200

    def test_half_a_character_is_no_password(self, owner: Employee) -> None:
        owner.log_in()
        raw = b'{"email": "eve@example.com", "password": "\\ud83d password", "name": "Eve"}'
        headers = {"Authorization": f"Bearer {owner.tokens['access_token']}", "Content-Type": "application/json"}
        response = owner.shop.client.post(f"{V1}/users", content=raw, headers=headers)
        assert response.status_code in {400, 422}, response.text

    def test_an_address_is_one_persons_in_a_tenant_and_free_in_another(self, owner: Employee, other: Customer) -> None:
        made = body()
        assert owner.send("POST", "/users", made).status_code == 201
        again = owner.send("POST", "/users", {**made, "email": str(made["email"]).upper()})
        error_of(again, 409, "DUPLICATE_RESOURCE")
        assert other.post("/users", made).status_code == 201

    def test_of_many_at_once_with_one_address_one_is_made(self, owner: Employee) -> None:
        made = body()
        owner.log_in()
        with ThreadPoolExecutor(8) as pool:
            statuses = [one.status_code for one in pool.map(lambda _: owner.send("POST", "/users", made), range(8))]
        assert sorted(statuses) == [201] + [409] * 7

    def test_a_mail_welcomes_him(self, owner: Employee, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[EmailMessage] = []
        monkeypatch.setattr(Mailer, "send", lambda _mailer, mail, **_: sent.append(mail))
        made = body()
        user_id = UUID(owner.send("POST", "/users", made).json()["data"]["id"])
        sql = "SELECT id FROM jobs WHERE kind = 'email.welcome' AND args ->> 'user_id' = :id"
        job_id = owner.shop.scalar(sql, id=str(user_id))
        owner.shop.work(job_id)
        (mail,) = sent
        assert mail["To"] == made["email"]
        assert PASSWORD not in mail.as_string()


class TestReading:
    def test_people_are_listed_newest_first_in_pages(self, owner: Employee) -> None:
        made = [str(owner.customer.employed()) for _ in range(4)]
        pages = walk(owner.customer, "/users", 2)
        assert [id_ for page in pages for id_ in page] == [*reversed(made), str(owner.id)]

    def test_one_reads_oneself_whatever_one_may_do(self, owner: Employee) -> None:
        for role in ROLES:
            ada = Employee(owner.customer, role)
            data = ada.get("/users/me").json()["data"]
            assert data.keys() == SHOWN
            assert (data["id"], data["email"], data["role"]) == (str(ada.id), ada.email, role)

    def test_no_answer_shows_a_hash(self, owner: Employee) -> None:
        for path in ("/users", "/users/me", f"/users/{owner.id}"):
            assert "argon2" not in owner.get(path).text
            assert "assword" not in owner.get(path).text

    def test_another_tenants_people_are_unknown(self, owner: Employee, other: Customer) -> None:
        stranger = Employee(other, "viewer")
        for method, sent in (("GET", None), ("PATCH", {"name": "Mallory"}), ("DELETE", None)):
            error_of(owner.send(method, f"/users/{stranger.id}", sent), 404, "NOT_FOUND")
        assert str(stranger.id) not in ids_of(owner.get("/users"))
        assert stranger.get("/users/me").json()["data"]["name"] == "Ada"


class TestChanging:
    def test_what_is_given_changes_and_all_else_stays(self, owner: Employee) -> None:
        eve = Employee(owner.customer, "viewer")
        before = owner.get(f"/users/{eve.id}").json()["data"]
        after = owner.send("PATCH", f"/users/{eve.id}", {"name": "Eva"}).json()["data"]
        assert after["version"] == before["version"] + 1
        moved = {"name", "version", "updatedAt"}
        assert {**after, **dict.fromkeys(moved)} == {**before, **dict.fromkeys(moved)}
        assert after["name"] == "Eva"
        for same in ({}, {"name": "Eva"}, {"name": "Eva", "role": "viewer", "permissions": []}):
            assert owner.send("PATCH", f"/users/{eve.id}", same).json()["data"] == after

    def test_old_and_new_values_are_in_the_audit_log_and_no_address(self, owner: Employee) -> None:
        user_id = owner.send("POST", "/users", body(role="viewer")).json()["data"]["id"]
        owner.send("PATCH", f"/users/{user_id}", {"role": "operator", "name": "Eva"})
        owner.send("PATCH", f"/users/{user_id}", {"role": "operator"})
        owner.send("DELETE", f"/users/{user_id}")
        acts = _acts(owner, user_id)
        assert [(actor, action) for actor, action, _ in acts] == [
            (f"user:{owner.id}", f"user.{done}") for done in ("created", "changed", "removed")
        ]
        created, changed, removed = (detail for _, _, detail in acts)
        assert created["new"] == {"name": "Eve", "role": "viewer", "permissions": [], "status": "active"}
        assert changed["old"] == {"name": "Eve", "role": "viewer"}
        assert changed["new"] == {"name": "Eva", "role": "operator"}
        assert removed["old"]["role"] == "operator"
        assert created["ip"]
        assert "@" not in str(acts)
        assert "argon2" not in str(acts)

    def test_a_key_acts_under_its_own_name(self, owner: Employee) -> None:
        user_id = owner.customer.employed()
        key_id = owner.customer.key.split("_")[2]
        assert [(actor, action) for actor, action, _ in _acts(owner, user_id)] == [(f"key:{key_id}", "user.created")]

    @pytest.mark.parametrize(
        "mass",
        [
            {"id": "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"},
            {"tenantId": "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"},
            {"email": "mallory@example.com"},
            {"password": "another password"},
            {"passwordHash": "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"},
            {"version": 0},
            {"isAdmin": True},
            {"role": None},
            {"status": "deleted"},
            {"permissions": ["everything"]},
        ],
        ids=str,
    )
    def test_what_is_not_to_be_changed_is_422(self, owner: Employee, mass: dict[str, object]) -> None:
        eve = Employee(owner.customer, "viewer")
        before = owner.get(f"/users/{eve.id}").json()
        error = error_of(owner.send("PATCH", f"/users/{eve.id}", {"name": "Eva", **mass}), 422, "VALIDATION_ERROR")
        assert fields_of(error)[0].partition("[")[0] in mass
        assert owner.get(f"/users/{eve.id}").json() == before

    def test_who_is_disabled_is_out_and_does_not_come_back_by_himself(
        self, owner: Employee, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
        eve = Employee(owner.customer, "viewer")
        assert eve.get("/orders").status_code == 200
        assert owner.send("PATCH", f"/users/{eve.id}", {"status": "disabled"}).status_code == 200
        error_of(eve.get("/orders"), 401, "UNAUTHENTICATED")
        error_of(eve.log_in(), 401, "UNAUTHENTICATED")
        assert owner.send("PATCH", f"/users/{eve.id}", {"status": "active"}).status_code == 200
        error_of(eve.get("/orders"), 401, "UNAUTHENTICATED")
        error_of(eve.refresh(), 401, "UNAUTHENTICATED")
        assert eve.log_in().status_code == 200

    def test_who_is_removed_is_out_with_all_that_was_his(
        self, owner: Employee, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
        eve = Employee(owner.customer, "viewer")
        assert eve.get("/orders").status_code == 200
        response = owner.send("DELETE", f"/users/{eve.id}")
        assert (response.status_code, response.content) == (204, b"")
        error_of(eve.get("/orders"), 401, "UNAUTHENTICATED")
        error_of(eve.log_in(), 401, "UNAUTHENTICATED")
        error_of(owner.send("DELETE", f"/users/{eve.id}"), 404, "NOT_FOUND")
        assert eve.shop.scalar("SELECT count(*) FROM refresh_tokens WHERE user_id = :id", id=eve.id) == 0


class TestRank:
    @pytest.mark.parametrize("theirs", ROLES)
    @pytest.mark.parametrize("own", ["owner", "admin"])
    def test_one_makes_changes_and_removes_only_whom_one_may_appoint(
        self, customer: Customer, own: str, theirs: str
    ) -> None:
        boss, second = Employee(customer, own), Employee(customer, "owner")
        subject = Employee(customer, theirs)
        allowed = theirs in MAY_APPOINT[own]
        demoted = {"role": "viewer" if theirs != "viewer" else "operator"}
        acts: list[tuple[str, str, Any]] = [
            ("POST", "/users", body(role=theirs)),
            ("PATCH", f"/users/{Employee(customer, 'viewer').id}", {"role": theirs}),
            ("PATCH", f"/users/{subject.id}", {"name": "Eva"}),
            ("PATCH", f"/users/{subject.id}", {"status": "disabled"}),
            ("PATCH", f"/users/{subject.id}", demoted),
            ("DELETE", f"/users/{Employee(customer, theirs).id}", None),
        ]
        before = customer.rows()
        for method, path, sent in acts:
            response = boss.send(method, path, sent)
            if allowed:
                assert response.status_code < 300, (method, path, response.text)
            else:
                assert theirs in error_of(response, 403, "FORBIDDEN")["message"]
        assert allowed or customer.rows() == before
        assert second.get("/users/me").status_code == 200

    @pytest.mark.parametrize("role", ["viewer", "operator"])
    def test_nobody_raises_himself(self, customer: Customer, role: str) -> None:
        ada, owner = Employee(customer, role), Employee(customer, "owner")
        for sent in ({"role": "owner"}, {"role": "admin"}, {"permissions": [USERS_WRITE]}, {"status": "active"}):
            error_of(ada.send("PATCH", f"/users/{ada.id}", sent), 403, "FORBIDDEN")
        error_of(ada.send("DELETE", f"/users/{owner.id}"), 403, "FORBIDDEN")
        error_of(ada.send("POST", "/users", body(role="owner")), 403, "FORBIDDEN")
        assert part_of(ada.refresh().json()["data"]["access_token"], 1)["role"] == role

    def test_an_admin_does_not_raise_himself_or_let_somebody_else_do_it(self, customer: Customer) -> None:
        admin = Employee(customer, "admin")
        error_of(admin.send("PATCH", f"/users/{admin.id}", {"role": "owner"}), 403, "FORBIDDEN")
        puppet = Employee(customer, "operator")
        sent = {"permissions": [USERS_WRITE]}
        assert admin.send("PATCH", f"/users/{puppet.id}", sent).status_code == 200
        for act in (("PATCH", f"/users/{admin.id}", {"role": "owner"}), ("POST", "/users", body(role="viewer"))):
            error_of(puppet.send(*act), 403, "FORBIDDEN")

    def test_a_permission_beyond_the_role_opens_that_and_no_more(self, owner: Employee) -> None:
        eve = Employee(owner.customer, "viewer")
        error_of(eve.get("/admin/dead-letters"), 403, "FORBIDDEN")
        given = owner.send("PATCH", f"/users/{eve.id}", {"permissions": [DEAD_LETTERS_READ, DEAD_LETTERS_READ]})
        assert given.json()["data"]["permissions"] == [DEAD_LETTERS_READ]
        owner.shop.client.app.state.token_ring.forget(UUID(part_of(eve.tokens["access_token"], 1)["sid"]))
        assert eve.get("/admin/dead-letters").status_code == 200
        error_of(eve.get("/users"), 403, "FORBIDDEN")

    def test_nobody_gives_what_he_does_not_have(self, customer: Customer) -> None:
        clerk = Employee(customer, "operator")
        with customer.shop.engine.begin() as tx:
            key = create_key(tx, customer.tenant_id, "hiring", [USERS_WRITE, ORDERS_READ])
        for act in (
            ("POST", "/users", body(permissions=[PRODUCTS_WRITE])),
            ("PATCH", f"/users/{clerk.id}", {"permissions": [PRODUCTS_WRITE]}),
            ("POST", "/users", body(role="operator")),
            ("PATCH", f"/users/{clerk.id}", {"name": "Eva"}),
        ):
            response = _by_key(customer, key, *act)
            error_of(response, 403, "FORBIDDEN")


def _by_key(customer: Customer, key: str, method: str, path: str, sent: object) -> Response:
    return customer.send(method, V1 + path, json=sent, headers={"X-API-Key": key})


class TestLastOwner:
    @pytest.mark.parametrize(
        "act",
        [
            lambda id_: ("PATCH", f"/users/{id_}", {"role": "admin"}),
            lambda id_: ("PATCH", f"/users/{id_}", {"status": "disabled"}),
            lambda id_: ("DELETE", f"/users/{id_}"),
        ],
    )
    def test_he_stays_unless_there_is_another(self, owner: Employee, act: Callable[[UUID], tuple[Any, ...]]) -> None:
        disabled = Employee(owner.customer, "owner")
        assert owner.send("PATCH", f"/users/{disabled.id}", {"status": "disabled"}).status_code == 200
        error_of(owner.send(*act(owner.id)), 409, "INVALID_STATE")
        assert owner.get("/users/me").json()["data"]["role"] == "owner"
        assert owner.send("PATCH", f"/users/{owner.id}", {"name": "Boss", "role": "owner"}).status_code == 200
        Employee(owner.customer, "owner")
        assert owner.send(*act(owner.id)).status_code < 300

    def test_owners_who_would_remove_each_other_at_once_leave_one(self, owner: Employee, shop: Shop) -> None:
        owners = [owner, *(Employee(owner.customer, "owner") for _ in range(7))]
        for one in owners:
            one.log_in()
        pairs = list(zip(owners, owners[1:] + owners[:1], strict=True))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: pair[0].send("PATCH", f"/users/{pair[1].id}", {"role": "viewer"}), pairs))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: one.send("DELETE", f"/users/{one.id}"), owners))
        sql = "SELECT count(*) FROM users WHERE tenant_id = :id AND role = 'owner' AND status = 'active'"
        assert shop.scalar(sql, id=owner.customer.tenant_id) == 1
