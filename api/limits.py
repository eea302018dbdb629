"""Rate limits: so many requests in a sliding minute for each key and each person, counted in Redis for all processes.

Requests of one caller that arrive together are counted together: while one count is under way the next gathers, so that
a busy caller costs a fraction of a round trip each. Without Redis each process counts for itself: callers are served,
and nobody gets more than his limit from any one process.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import msgspec
from limits import RateLimitItemPerSecond, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import RateLimiter as Strategy
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Send
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from domain.errors import LongshoreError
from ops.telemetry import RATE_LIMITED, log

logger = log(__name__)

#: A Redis that does not answer within this is away, and is not asked again for a while.
_TIMEOUT_S = 0.25
_AWAY_S = 5.0
#: For so long a process reckons by itself what a caller has left: headers may be so old, what is granted never is.
_REMEMBER_S = 1.0
_MOST_REMEMBERED = 10_000
#: Callers who are counted at one moment, each over a connection of its own.
_MOST_AT_ONCE = 8


class Policy(msgspec.Struct, frozen=True):
    """At most `amount` in any `window_s` seconds; `name` is what headers and metrics call it."""

    name: str
    amount: int
    window_s: int


class Standing(msgspec.Struct, frozen=True):
    """Where a caller stands after a request: what is left, and in how many seconds (at least 1) there is more."""

    policy: Policy
    is_granted: bool
    remaining: int
    more_in_s: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-11, and the older ones that clients know."""
        name, amount = self.policy.name, self.policy.amount
        shown = {
            "ratelimit-policy": f'"{name}";q={amount};w={self.policy.window_s}',
            "ratelimit": f'"{name}";r={self.remaining};t={self.more_in_s}',
            "x-ratelimit-limit": str(amount),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(int(time.time()) + self.more_in_s),
        }
        return [(field.encode(), value.encode()) for field, value in shown.items()]


class RateLimited(LongshoreError):
    """{amount} requests in {window_s} seconds are the limit; try again in {more_in_s} s."""

    code = "RATE_LIMITED"

    def __init__(self, standing: Standing) -> None:
        policy = standing.policy
        super().__init__(amount=policy.amount, window_s=policy.window_s, more_in_s=standing.more_in_s)
        self.headers = {"Retry-After": str(standing.more_in_s)}
        self.standing = standing
        self.policies = [policy.name]


_Waiting = list[tuple[int, "asyncio.Future[Standing]"]]


class RateLimiter:
    """One per API process, an async context. The algorithm is the sliding window counter of `limits`."""

    def __init__(self, redis_url: str) -> None:
        once = Retry(NoBackoff(), 0)
        self._pool = ConnectionPool.from_url(
            redis_url,
            max_connections=_MOST_AT_ONCE,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=once,
        )
        shared = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="longshore:limits",
            connection_pool=self._pool,  # type: ignore[arg-type]  # handed on to redis-py, as its documentation says
        )
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._away_until = float("-inf")
        self._left: dict[tuple[RateLimitItemPerSecond, str], tuple[float, WindowStats]] = {}
        self._waiting: dict[tuple[Policy, str], _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RateLimiter":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._tasks)
        await self._pool.aclose()

    async def take(self, policy: Policy, who: str, cost: int = 1) -> Standing:
        """Counts one request of this caller, unless the policy is used up. Never raises for want of Redis."""
        future: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get((policy, who))
        if waiting is not None:
            waiting.append((cost, future))
        else:
            self._waiting[policy, who] = [(cost, future)]
            task = asyncio.create_task(self._count_while_asked(policy, who))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _count_while_asked(self, policy: Policy, who: str) -> None:
        key = (policy, who)
        while asked := self._waiting[key]:
            self._waiting[key] = []
            try:
                granted, stats = await self._count(policy, who, [cost for cost, _ in asked])
            except Exception as error:  # noqa: BLE001  # whoever waits is told, and those after them are counted
                for _, future in asked:
                    if not future.done():
                        future.set_exception(error)
                continue
            more_in_s = max(1, math.ceil(stats.reset_time - time.time()))
            for is_granted, (_, future) in zip(granted, asked, strict=True):
                if not future.done():  # its caller has gone
                    future.set_result(Standing(policy, is_granted, stats.remaining, more_in_s))
        del self._waiting[key]

    async def _count(self, policy: Policy, who: str, costs: Sequence[int]) -> tuple[list[bool], WindowStats]:
        item = RateLimitItemPerSecond(policy.amount, policy.window_s, namespace=policy.name)
        async with self._room:
            if time.monotonic() >= self._away_until:
                try:
                    return await self._hit_shared(item, who, costs)
                except Exception as error:  # noqa: BLE001  # one wrong byte of a reply is anything from ValueError on
                    self._away_until = time.monotonic() + _AWAY_S
                    logger.warning("limits.redis_away", error=type(error).__name__)
                    # What is left of that reply must not be taken for the next one's. A connection that does not take
                    # leave in time is let go of all the same.
                    with suppress(Exception):
                        await self._pool.disconnect(inuse_connections=False)
        return await _hit(self._local, item, who, costs)

    async def _hit_shared(
        self, item: RateLimitItemPerSecond, who: str, costs: Sequence[int]
    ) -> tuple[list[bool], WindowStats]:
        """As `_hit`. What is left is asked for once a second; meanwhile, what this process grants is taken off it."""
        asked_at, stats = self._left.get((item, who), (float("-inf"), WindowStats(0.0, 0)))
        total = sum(costs)
        may_know = time.monotonic() - asked_at < _REMEMBER_S and total <= stats.remaining
        if may_know and await self._shared.hit(item, who, cost=total):
            stats = WindowStats(stats.reset_time, stats.remaining - total)
            self._left[item, who] = asked_at, stats
            return [True] * len(costs), stats
        granted, stats = await _hit(self._shared, item, who, costs)
        if len(self._left) >= _MOST_REMEMBERED:
            self._left.clear()
        self._left[item, who] = time.monotonic(), stats
        return granted, stats


async def _hit(
    strategy: Strategy, item: RateLimitItemPerSecond, who: str, costs: Sequence[int]
) -> tuple[list[bool], WindowStats]:
    """Which of these are granted, the first first, and what is left after them."""
    totals = list(accumulate(costs))
    if await strategy.hit(item, who, cost=totals[-1]):
        return [True] * len(costs), await strategy.get_window_stats(item, who)
    stats = await strategy.get_window_stats(item, who)
    fitting = max((total for total in totals if total <= stats.remaining), default=0)
    if not fitting or not await strategy.hit(item, who, cost=fitting):
        return [False] * len(costs), stats
    return [total <= fitting for total in totals], await strategy.get_window_stats(item, who)


def refused(standing: Standing, caller: str | None = None) -> RateLimited:
    """What to raise; it is counted and logged."""
    RATE_LIMITED.labels(standing.policy.name).inc()
    logger.info("rate_limit_hit", policy=standing.policy.name, caller=caller)
    return RateLimited(standing)


class PerCaller(ASGIMiddleware):
    """Each request of a caller counts against the plan of his tenant, more than once where its route says so.

    Raises RateLimited. The standing is left in the request's state, from where every answer carries it. Runs after
    authentication.
    """

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["method"] == "OPTIONS":  # asked by browsers, without a key: nobody to count
            await next_app(scope, receive, send)
            return
        caller, limiter = scope["user"], scope["litestar_app"].state.limiter
        cost = scope["route_handler"].opt.get("cost", 1)
        standing: Standing = await limiter.take(Policy("burst", caller.requests_per_minute, 60), caller.name, cost)
        scope["state"]["standing"] = standing
        if not standing.is_granted:
            raise refused(standing, caller.name)
        await next_app(scope, receive, send)
