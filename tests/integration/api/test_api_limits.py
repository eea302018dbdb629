"""Rate limits: what a plan buys, shared by all processes through Redis, kept by each for itself without it."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from httpx import Response
from redis.asyncio import Connection
from redis.exceptions import TimeoutError as RedisTimeout

import api.limits
from api.limits import Policy, RateLimiter, Standing
from domain.tenants.keys import create_key
from domain.tenants.tenants import change_tenant
from tests.integration.api.shop import V1, Customer, Shop, error_of

Answer = TypeVar("Answer")


def allowed(customer: Customer, requests_per_minute: int | None = None, plan: str | None = None) -> str:
    """A key of the customer's, which may ask so often."""
    settings = {"requestsPerMinute": requests_per_minute}
    with customer.shop.engine.begin() as tx:
        change_tenant(tx, customer.tenant_id, "test", plan=plan, settings=settings)
        return create_key(tx, customer.tenant_id, "limited", ["api"])


def asked(shop: Shop, key: str, path: str = "/orders") -> Response:
    return shop.client.get(V1 + path, headers={"X-API-Key": key})


def limits_of(response: Response) -> tuple[int, int]:
    """The limit and what is left, which both families of headers tell alike."""
    limit, left = (int(response.headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining"))
    more_in_s = int(response.headers["RateLimit"].partition("t=")[2])
    assert response.headers["RateLimit-Policy"] == f'"burst";q={limit};w=60'
    assert response.headers["RateLimit"] == f'"burst";r={left};t={more_in_s}'
    assert 0 < more_in_s <= 60
    assert abs(int(response.headers["X-RateLimit-Reset"]) - time.time() - more_in_s) < 5
    return limit, left


def test_each_answer_says_what_is_left_and_who_has_nothing_left_is_turned_away(customer: Customer) -> None:
    shop, key = customer.shop, allowed(customer, 3)
    answers = [asked(shop, key, path) for path in ("/orders", "/orders/junk", "/jobs")]
    assert [response.status_code for response in answers] == [200, 400, 200]
    assert [limits_of(response) for response in answers] == [(3, 2), (3, 1), (3, 0)]
    before = customer.rows()
    refused = customer.order(X_API_Key=key)
    error_of(refused, 429, "RATE_LIMITED")
    assert refused.json()["violated-policies"] == ["burst"]
    assert limits_of(refused) == (3, 0)
    assert refused.headers["Retry-After"] == refused.headers["RateLimit"].partition("t=")[2]
    assert customer.rows() == before


@pytest.mark.parametrize(("plan", "limit"), [("basic", 100), ("free", 100), ("pro", 1_000), ("enterprise", 10_000)])
def test_the_plan_says_how_much_and_each_key_has_its_own(customer: Customer, plan: str, limit: int) -> None:
    keys = [allowed(customer, plan=plan) for _ in range(2)]
    assert [limits_of(asked(customer.shop, key)) for key in keys] == [(limit, limit - 1)] * 2
    assert limits_of(asked(customer.shop, keys[0])) == (limit, limit - 2)


def test_a_report_costs_five(customer: Customer) -> None:
    key = allowed(customer, 7)
    body = {"type": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    answers = [customer.post("/reports", body, X_API_Key=key) for _ in range(2)]
    assert [(response.status_code, limits_of(response)) for response in answers] == [(202, (7, 2)), (429, (7, 2))]
    assert asked(customer.shop, key).status_code == 200


def test_who_is_not_let_in_learns_nothing_of_limits(customer: Customer) -> None:
    response = asked(customer.shop, "junk")
    error_of(response, 401, "UNAUTHENTICATED")
    assert "RateLimit" not in response.headers


# ---- the limiter itself


def run(what: Coroutine[Any, Any, Answer]) -> Answer:
    return asyncio.run(what)


def granted(standings: list[Standing]) -> list[bool]:
    return [standing.is_granted for standing in standings]


def test_of_many_at_once_exactly_as_many_are_granted_as_the_policy_says_the_first_first(redis_url: str) -> None:
    async def race() -> list[Standing]:
        async with RateLimiter(redis_url) as limiter:
            return await asyncio.gather(*(limiter.take(Policy("race", 30, 60), "one") for _ in range(64)))

    assert granted(run(race())) == [True] * 30 + [False] * 34


def test_of_many_callers_at_once_each_is_counted_for_himself_and_by_redis(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.limits, "_TIMEOUT_S", 10.0)  # a busy machine is no outage here

    async def ask() -> list[Standing]:
        async with RateLimiter(redis_url) as limiter:
            who = [str(number) for number in range(100)]
            await asyncio.gather(*(limiter.take(Policy("many", 2, 60), one) for one in who))
        async with RateLimiter(redis_url) as another:
            return await asyncio.gather(*(another.take(Policy("many", 2, 60), one) for one in who))

    assert [standing.remaining for standing in run(ask())] == [0] * 100


def test_what_costs_too_much_is_refused_and_what_is_cheaper_after_it_granted(redis_url: str) -> None:
    async def ask() -> list[Standing]:
        async with RateLimiter(redis_url) as limiter:
            return [await limiter.take(Policy("cost", 10, 60), "one", cost) for cost in (8, 3, 2, 1)]

    standings = run(ask())
    assert [(standing.is_granted, standing.remaining) for standing in standings] == [
        (True, 2), (False, 2), (True, 0), (False, 0),
    ]  # fmt: skip


def test_two_processes_share_what_a_caller_has(redis_url: str) -> None:
    async def ask() -> list[Standing]:
        policy = Policy("shared", 3, 60)
        async with RateLimiter(redis_url) as one, RateLimiter(redis_url) as other:
            return [await limiter.take(policy, "one") for limiter in (one, other, one, other)]

    assert granted(run(ask())) == [True, True, True, False]


def test_after_the_time_it_names_there_is_more(redis_url: str) -> None:
    async def ask() -> None:
        policy = Policy("short", 2, 1)
        async with RateLimiter(redis_url) as limiter:
            assert granted([await limiter.take(policy, "one") for _ in range(2)]) == [True, True]
            refused = await limiter.take(policy, "one")
            assert (refused.is_granted, refused.more_in_s) == (False, 1)
            await asyncio.sleep(refused.more_in_s)
            assert (await limiter.take(policy, "one")).is_granted

    run(ask())


def test_without_redis_each_process_counts_for_itself_and_with_it_again_all_together(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy("away", 3, 60)

    async def ask() -> None:
        async with RateLimiter("redis://127.0.0.1:1/0") as alone:
            assert granted([await alone.take(policy, "one") for _ in range(4)]) == [True, True, True, False]
        async with RateLimiter(redis_url) as shared:
            monkeypatch.setattr(shared, "_away_until", time.monotonic() + 60)
            assert granted([await shared.take(policy, "one") for _ in range(2)]) == [True, True]
            monkeypatch.setattr(shared, "_away_until", 0.0)
            assert (await shared.take(policy, "one")).remaining == 2

    run(ask())


def test_a_redis_that_says_nothing_is_waited_for_once_in_a_while_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

        async def ask() -> None:
            async with RateLimiter(url) as limiter:
                for who in range(20):
                    assert (await limiter.take(Policy("silent", 100, 60), str(who))).is_granted

        run(ask())
        silent.setblocking(False)
        callers = 0
        while True:
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                break
            callers += 1
        assert callers == 1


def test_a_redis_that_does_not_even_take_leave_refuses_nobody(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        policy = Policy("leave", 2, 60)
        async with RateLimiter(redis_url) as limiter:
            assert (await limiter.take(policy, "one")).is_granted
            with monkeypatch.context() as broken:
                broken.setattr(limiter, "_hit_shared", _fail(ValueError))
                broken.setattr(
                    Connection, "disconnect", _fail(RedisTimeout)
                )  # as TLS that waits for the other side's word
                assert granted([await limiter.take(policy, "one") for _ in range(3)]) == [True, True, False]

    run(ask())


def _fail(error: type[Exception]) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_caller_who_left_while_he_was_counted_holds_nobody_up(redis_url: str) -> None:
    async def ask() -> None:
        policy = Policy("gone", 10, 60)
        async with RateLimiter(redis_url) as limiter:
            gone = [asyncio.create_task(limiter.take(policy, "one")) for _ in range(3)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            assert (await limiter.take(policy, "one")).is_granted

    run(ask())
