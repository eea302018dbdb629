"""The bell between a commit and the relay: never in the way, not lost on leaving; and leaving never hangs."""

import asyncio
import time

import pytest
from redis import Redis

from api.relay_bell import RelayBell
from domain.jobs.relay_bell import MOST_RELAY_BELLS, RELAY_BELL


def test_leaving_in_the_middle_of_a_ring_takes_a_moment_and_loses_nothing(redis_url: str) -> None:
    async def ring_and_leave(pause_s: float) -> None:
        async with RelayBell(redis_url) as bell:
            bell.ring()
            await asyncio.sleep(pause_s)

    async def run() -> None:
        async with asyncio.timeout(20):
            for number in range(60):
                await ring_and_leave(number * 0.00005)

    asyncio.run(run())
    with Redis.from_url(redis_url) as client:
        assert client.llen(RELAY_BELL) == MOST_RELAY_BELLS


def test_rings_from_threads_arrive_and_many_become_few(redis_url: str) -> None:
    async def run() -> None:
        async with RelayBell(redis_url) as bell:
            await asyncio.gather(*(asyncio.to_thread(bell.ring_from_thread) for _ in range(50)))

    asyncio.run(run())
    with Redis.from_url(redis_url) as client:
        assert 1 <= int(client.llen(RELAY_BELL)) <= MOST_RELAY_BELLS


@pytest.mark.parametrize("rings", [0, 1])
def test_without_redis_leaving_takes_a_moment_too(rings: int) -> None:
    async def run() -> None:
        async with RelayBell("redis://127.0.0.1:1/0") as bell:
            for _ in range(rings):
                bell.ring()
            assert not await bell.answers()

    started_at = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started_at < 3.0
