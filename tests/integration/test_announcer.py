"""Word from a worker that jobs have changed: quick, gathered, and never in the way, whatever Redis does."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from redis import Redis
from redis.client import PubSub
from structlog.testing import capture_logs

import workers.announcer
from domain.ids import new_id
from domain.jobs.announcements import CHANNEL, pack, unpack
from tests.end_to_end.running import wait_until
from workers.announcer import Announcer
from workers.broker import connect_redis


@pytest.fixture
def heard(redis_url: str) -> Iterator[PubSub]:
    with Redis.from_url(redis_url) as redis, redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(CHANNEL)
        pubsub.get_message(timeout=5)
        yield pubsub


@contextmanager
def announcing(redis: Redis) -> Iterator[Announcer]:
    announcer = Announcer(redis)
    announcer.start()
    yield announcer
    announcer.close()
    assert not announcer._thread.is_alive()
    redis.close()


def words(heard: PubSub, ids: int) -> list[list[UUID]]:
    """The words until so many ids were heard."""
    found: list[list[UUID]] = []
    until = time.monotonic() + 20
    while sum(map(len, found)) < ids and time.monotonic() < until:
        if message := heard.get_message(timeout=0.2):
            found.append([UUID(bytes=job_id) for job_id in unpack(message["data"])])
    return found


def test_ids_survive_packing_and_garbage_is_nothing() -> None:
    ids = [new_id() for _ in range(3)]
    assert unpack(pack(ids)) == [job_id.bytes for job_id in ids]
    assert unpack(b"") == unpack(b"short") == unpack(pack(ids)[:-1]) == []


def test_what_is_announced_is_heard_and_many_announcements_are_few_words(redis_url: str, heard: PubSub) -> None:
    ids = [new_id() for _ in range(5_000)]
    with announcing(connect_redis(redis_url)) as announcer:
        for job_id in ids:
            announcer.announce([job_id])
        announcer.announce(iter(()))
        found = words(heard, len(ids))
    assert [job_id for word in found for job_id in word] == ids
    assert len(found) < len(ids) / 10


def test_what_was_announced_before_closing_is_said(redis_url: str, heard: PubSub) -> None:
    ids = [new_id() for _ in range(3)]
    with announcing(connect_redis(redis_url)) as announcer:
        announcer.announce(ids)
    assert words(heard, 3) == [ids]


def test_a_redis_that_hangs_holds_up_nobody_and_is_told_once() -> None:
    # Given something that takes connections and never answers
    with socket.create_server(("127.0.0.1", 0)) as deaf, capture_logs() as logs:
        redis = connect_redis(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", timeout_s=0.5)
        with announcing(redis) as announcer:
            # When jobs go on changing, before and after it is noticed
            slowest = 0.0
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                started_at = time.perf_counter()
                announcer.announce([new_id()])
                slowest = max(slowest, time.perf_counter() - started_at)
                time.sleep(0.001)
            # Then nobody has waited for it, and nothing is kept for it
            assert slowest < 0.5
            assert announcer._queue.empty()
    assert [entry["event"] for entry in logs] == ["announcer.silent"]


def test_it_speaks_again_when_redis_is_back(monkeypatch: pytest.MonkeyPatch, redis_url: str, heard: PubSub) -> None:
    monkeypatch.setattr(workers.announcer, "_SILENT_S", 0.05)
    redis = connect_redis(redis_url)
    with announcing(redis) as announcer, capture_logs() as logs:
        # Given a word that Redis refused
        with monkeypatch.context() as refusing:
            refusing.setattr(redis, "publish", lambda *_: redis.eval("syntax error", 0))
            announcer.announce([new_id()])
            wait_until(lambda: [entry["event"] for entry in logs] == ["announcer.silent", "announcer.speaks_again"])
        # Then the next one is heard
        wait_until(lambda: not announcer._silent)
        job_id = new_id()
        announcer.announce([job_id])
        assert words(heard, 1) == [[job_id]]
