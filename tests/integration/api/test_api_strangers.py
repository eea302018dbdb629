"""Who has proved nothing yet is limited by his address; who is known is not stopped by a bad neighbour."""

from collections.abc import Iterator

import msgspec
import pytest
from httpx import Response
from litestar import Litestar
from litestar.testing import TestClient
from redis import Redis

import api.ring
import api.strangers
from api.limits import Policy
from domain.tenants.keys import create_key, revoke_key
from ops.migrate import head
from tests.integration.api.people import Employee
from tests.integration.api.shop import V1, Customer, Shop, error_of, opened

TRIES = 4
Client = TestClient[Litestar]


@pytest.fixture
def strict(shop: Shop) -> Iterator[Client]:
    """The application, which takes few tries from each address."""
    with Redis.from_url(shop.settings.redis_url) as redis:
        redis.flushall()
    few = msgspec.structs.replace(
        shop.settings, rate_limit_max_requests=TRIES, rate_limit_window_ms=60_000, trusted_proxies="10.0.0.0/8"
    )
    with opened(few, head()) as client:
        yield client


def asked(client: Client, key: str, address: str = "") -> Response:
    headers = {"X-API-Key": key} | ({"X-Forwarded-For": address} if address else {})
    return client.get(f"{V1}/orders", headers=headers)


def test_who_guesses_keys_is_turned_away_and_who_has_a_known_one_is_not(strict: Client, customer: Customer) -> None:
    assert asked(strict, customer.key).status_code == 200
    for _ in range(TRIES):
        error_of(asked(strict, "longshore_live_junk"), 401, "UNAUTHENTICATED")
    refused = asked(strict, "longshore_live_junk")
    error_of(refused, 429, "RATE_LIMITED")
    assert refused.json()["violated-policies"] == ["anonymous"]
    assert refused.headers["RateLimit-Policy"] == f'"anonymous";q={TRIES};w=60'
    assert int(refused.headers["Retry-After"]) >= 1
    # A key that nobody has asked for yet is looked up for nobody there, however good; a known one opens as before.
    with customer.shop.engine.begin() as tx:
        fresh = create_key(tx, customer.tenant_id, "fresh", ["api"])
    error_of(asked(strict, fresh), 429, "RATE_LIMITED")
    assert asked(strict, customer.key).status_code == 200


def test_a_bad_neighbour_stops_nobody_whose_key_was_good_when_it_was_looked_at_last(
    strict: Client, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.ring, "REMEMBER_S", 0.0)
    assert asked(strict, customer.key).status_code == 200
    for _ in range(TRIES + 1):
        asked(strict, "longshore_live_junk")
    assert [asked(strict, customer.key).status_code for _ in range(3)] == [200] * 3
    with customer.shop.engine.begin() as tx:
        revoke_key(tx, customer.key.split("_")[2])
    error_of(asked(strict, customer.key), 429, "RATE_LIMITED")  # found to be nobody's, and one try more
    error_of(asked(strict, customer.key), 429, "RATE_LIMITED")


def test_a_bad_neighbour_stops_nobody_whose_token_we_have_signed(strict: Client, customer: Customer) -> None:
    ada = Employee(customer)
    assert ada.log_in().status_code == 200
    for _ in range(TRIES + 1):
        asked(strict, "longshore_live_junk")
    bearer = {"Authorization": f"Bearer {ada.tokens['access_token']}"}
    assert strict.get(f"{V1}/orders", headers=bearer).status_code == 200


def test_a_forged_header_does_not_free_a_stranger(strict: Client) -> None:
    """The client speaks from no proxy's address: what it claims does not count."""
    for number in range(TRIES):
        error_of(asked(strict, "junk", f"198.51.100.{number}"), 401, "UNAUTHENTICATED")
    error_of(asked(strict, "junk", "198.51.100.99"), 429, "RATE_LIMITED")


def test_each_request_to_the_entrance_counts_and_says_what_is_left(strict: Client) -> None:
    body = {"refreshToken": "junk"}
    answers = [strict.post(f"{V1}/auth/refresh", json=body) for _ in range(TRIES + 1)]
    assert [response.status_code for response in answers] == [401] * TRIES + [429]
    assert [int(response.headers["X-RateLimit-Remaining"]) for response in answers] == [3, 2, 1, 0, 0]


def test_one_account_is_tried_five_times_a_minute_from_one_address(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.strangers, "LOG_IN", Policy("login", 5, 60))

    def log_in(email: str) -> Response:
        return shop.client.post(f"{V1}/auth/login", json={"email": email, "password": "not this one"})

    email = "guessed@harbour.example"
    assert [log_in(email).status_code for _ in range(5)] == [401] * 5
    refused = log_in(f"  {email.upper()} ")
    error_of(refused, 429, "RATE_LIMITED")
    assert refused.json()["violated-policies"] == ["login"]
    assert log_in("another@harbour.example").status_code == 401


def test_no_address_of_a_person_goes_to_redis(shop: Shop) -> None:
    shop.client.post(f"{V1}/auth/login", json={"email": "secret@harbour.example", "password": "not this one"})
    with Redis.from_url(shop.settings.redis_url) as redis:
        keys = [key.decode() for key in redis.scan_iter("longshore:limits*")]
    assert keys
    assert [key for key in keys if "harbour" in key] == []
