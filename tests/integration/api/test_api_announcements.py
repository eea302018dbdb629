"""The subscription of an API process: kept alive, found dead, renewed; and leaving never hangs."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from redis import Redis

import api.announcements
from api.announcements import Announcements
from domain.ids import new_id
from domain.jobs.announcements import CHANNEL, pack


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # it is a wait-until
            await asyncio.sleep(0.02)


def test_silence_is_no_outage_and_a_redis_that_freezes_is_one(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setattr(api.announcements, "_SILENCE_S", 0.3)
    monkeypatch.setattr(api.announcements, "_TIMEOUT_S", 0.1)
    heard: list[Sequence[bytes]] = []

    async def run() -> None:
        async with Announcements(redis_url, heard.append) as announcements:
            await until(lambda: announcements.hears)
            # Given silence for longer than a dead subscription would be believed in
            await asyncio.sleep(1.0)
            assert heard == [[]]
            with Redis.from_url(redis_url) as redis:
                redis.client_pause(1_500)
            await until(lambda: not announcements.hears)
            await until(lambda: announcements.hears)
            # Then what was missed is announced as such, and words are heard as before
            assert heard == [[], []]
            job_id = new_id()
            announcements.say([job_id])
            await until(lambda: heard[2:] == [[job_id.bytes]])

    asyncio.run(run())


def test_without_redis_nothing_is_heard_and_leaving_takes_a_moment() -> None:
    async def run() -> None:
        async with Announcements("redis://127.0.0.1:1/0", lambda _: None) as announcements:
            await asyncio.sleep(0.2)
            assert not announcements.hears
            announcements.say([new_id()])

    started_at = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started_at < 3.0


def test_leaving_while_it_connects_takes_a_moment(redis_url: str) -> None:
    async def run() -> None:
        async with asyncio.timeout(40):
            for number in range(10):
                async with Announcements(redis_url, lambda _: None):
                    await asyncio.sleep(number * 0.0004)

    asyncio.run(run())
    with Redis.from_url(redis_url) as redis:
        assert redis.publish(CHANNEL, pack([new_id()])) == 0
