"""People of a tenant, as they log in and speak to the API with their tokens."""

import base64
import itertools
import json
from typing import Any
from uuid import UUID

from httpx import Response

from domain.tenants.passwords import hash_password
from domain.tenants.permission_rules import ROLES
from domain.tenants.users import NewUser, create_user
from tests.integration.api.shop import V1, Customer

PASSWORD = "correct horse"
_NUMBERS = itertools.count(1)


class Employee:
    """A person of a customer's tenant. `tokens`: what the last log-in or refresh answered."""

    def __init__(self, customer: Customer, role: str = "viewer", email: str | None = None, **more: Any) -> None:
        self.customer, self.shop = customer, customer.shop
        self.email = email or f"person-{next(_NUMBERS)}@example.com"
        new = NewUser(email=self.email, name="Ada", password_hash=hash_password(PASSWORD), role=role, **more)
        with self.shop.engine.begin() as tx:
            self.id: UUID = create_user(tx, customer.tenant_id, new, ROLES).id
        self.tokens: dict[str, Any] = {}

    def log_in(self, password: str = PASSWORD, **headers: str) -> Response:
        response = log_in(self.customer, self.email, password, **headers)
        if response.status_code == 200:
            self.tokens = response.json()["data"]
        return response

    def refresh(self, token: str | None = None) -> Response:
        return post(self.customer, "/auth/refresh", {"refreshToken": token or self.tokens["refresh_token"]})

    def send(self, method: str, path: str, body: object = None, token: str | None = None, **headers: str) -> Response:
        if token is None and not self.tokens:
            assert self.log_in().status_code == 200
        bearer = {"Authorization": f"Bearer {token or self.tokens['access_token']}", **headers}
        return self.shop.client.request(method, V1 + path, headers=bearer, json=body) if body is not None else (
            self.shop.client.request(method, V1 + path, headers=bearer)
        )  # fmt: skip

    def get(self, path: str, token: str | None = None, **headers: str) -> Response:
        return self.send("GET", path, None, token, **headers)

    def acts(self) -> list[str]:
        """What the audit log says was done to him, in order."""
        return acts_on(self.customer, self.id)


def acts_on(customer: Customer, subject: object) -> list[str]:
    found: list[str] = customer.shop.scalar(
        "SELECT array_agg(action ORDER BY position) FROM audit_log WHERE subject = :subject AND tenant_id = :tenant_id",
        subject=str(subject),
        tenant_id=customer.tenant_id,
    )
    return found or []


def post(customer: Customer, path: str, body: object, **headers: str) -> Response:
    """As somebody who shows nothing."""
    return customer.shop.client.post(V1 + path, json=body, headers=headers)


def log_in(customer: Customer, email: str, password: str = PASSWORD, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return post(customer, "/auth/login", {"email": email, "password": password}, **named)


def part_of(token: str, part: int) -> dict[str, Any]:
    """The header (0) or the claims (1) of a JWT, unverified."""
    text = token.split(".")[part]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found
