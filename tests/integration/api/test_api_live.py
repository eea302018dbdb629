"""News of a job: long polls and event streams wake on word of it, get by without word, and never outlive their use."""

import asyncio
import gc
import http.client
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import api.job_news
import api.routes.job_events
import api.routes.jobs
from api.job_news import JobNews
from api.routes.job_events import events_of
from domain.jobs.announcements import CHANNEL, changed_since, pack
from domain.jobs.queries import get_job
from ops.stack import Stack
from ops.telemetry import LIVE_WAITERS
from tests.end_to_end.running import wait_until
from tests.integration.api.served import Served, served
from tests.integration.api.shop import V1, Customer, Shop, settings_for

NEVER_S = 3600.0


@pytest.fixture
def only_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read now and then: what wakes is word, or nothing does."""
    monkeypatch.setattr(api.job_news, "HEARING_S", NEVER_S)


@pytest.fixture
def server(shop: Shop) -> Iterator[Served]:
    with served(shop.settings) as running:
        yield running


@pytest.fixture
def deaf_server(shop: Shop, tmp_path: Path) -> Iterator[Served]:
    """Nobody listens at its Redis."""
    with served(settings_for(shop.settings.database_url, "redis://127.0.0.1:1/0", tmp_path)) as running:
        yield running


@pytest.fixture
def job_id(customer: Customer) -> UUID:
    return customer.reported()[1]


@pytest.fixture
def say(stack: Stack) -> Iterator[Callable[..., int]]:
    """Word that these jobs have changed; answers how many processes heard it."""
    with Redis.from_url(stack.redis_url) as redis:
        yield lambda *job_ids: redis.publish(CHANNEL, pack(job_ids))


def move(shop: Shop, job_id: UUID, state: str) -> str:
    """The job's new version."""
    return str(
        shop.scalar(
            "UPDATE jobs SET state = :state, version = version + 1 WHERE id = :id RETURNING version",
            id=job_id,
            state=state,
        )
    )


def waiters() -> float:
    return next(sample.value for metric in LIVE_WAITERS.collect() for sample in metric.samples)


@pytest.fixture(autouse=True)
def _nobody_waits_yet() -> None:
    wait_until(lambda: waiters() == 0)  # who waited in the test before may not have left quite


@contextmanager
def polling(server: Served, job_id: UUID, key: str, **headers: str) -> Iterator["Future[tuple[int, Any, Any]]"]:
    """A long poll that waits when the block begins."""
    before = waiters()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.read, f"{V1}/jobs/{job_id}", X_API_Key=key, **{"Prefer": "wait=25", **headers})
        wait_until(lambda: waiters() > before)
        yield answer


def test_a_long_poll_answers_when_the_job_is_done_not_when_it_is_under_way(
    only_word: None, shop: Shop, server: Served, customer: Customer, job_id: UUID, say: Callable[..., int]
) -> None:
    with polling(server, job_id, customer.key) as answer:
        move(shop, job_id, "running")
        assert say(job_id)
        version = move(shop, job_id, "succeeded")
        say(job_id)
        status, body, headers = answer.result(20)
    assert (status, body["data"]["state"], body["data"]["done"]) == (200, "succeeded", True)
    assert (headers["etag"], headers["preference-applied"]) == (f'"{version}"', "wait=25")
    assert "Prefer" in headers["vary"]
    assert "retry-after" not in headers


def test_with_an_etag_it_answers_at_the_first_change(
    only_word: None, shop: Shop, server: Served, customer: Customer, job_id: UUID, say: Callable[..., int]
) -> None:
    seen = customer.get(f"/jobs/{job_id}").headers["ETag"]
    with polling(server, job_id, customer.key, If_None_Match=seen) as answer:
        move(shop, job_id, "running")
        say(job_id)
        status, body, headers = answer.result(20)
    assert (status, body["data"]["state"], headers["retry-after"]) == (200, "running", "1")


def test_word_is_only_a_hint_and_garbage_none(
    only_word: None, shop: Shop, server: Served, customer: Customer, job_id: UUID, say: Callable[..., int], stack: Stack
) -> None:
    with polling(server, job_id, customer.key) as answer:
        with Redis.from_url(stack.redis_url) as redis:
            redis.publish(CHANNEL, b"no ids at all")
        say(job_id)  # nothing has changed
        move(shop, job_id, "succeeded")
        say(customer.shop.customer().tenant_id, job_id)
        assert answer.result(20)[1]["data"]["state"] == "succeeded"


def test_what_changes_between_reading_and_waiting_is_not_missed(
    only_word: None, monkeypatch: pytest.MonkeyPatch, shop: Shop, server: Served, customer: Customer, job_id: UUID
) -> None:
    # Given a job that ends without word, after it was read and before anybody waits for it
    def read_then_end(*of: Any) -> Any:
        row = get_job(*of)
        move(shop, job_id, "succeeded")
        return row

    monkeypatch.setattr(api.routes.jobs, "get_job", read_then_end)
    # Then the waiting sees it nevertheless
    _, body, _ = server.read(f"{V1}/jobs/{job_id}", X_API_Key=customer.key, Prefer="wait=25")
    assert body["data"]["state"] == "succeeded"


def test_without_redis_the_rows_are_read_now_and_then_and_all_in_one_statement(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, deaf_server: Served, customer: Customer
) -> None:
    # Given callers who wait for several jobs, and nothing to hear
    job_ids = [customer.reported()[1] for _ in range(5)]
    streams = [deaf_server.follow(job_id, customer.key) for job_id in job_ids]
    assert [stream.job()[1] for stream in streams] == ["queued"] * 5
    reads: list[int] = []

    def counted(tx: Any, seen: Sequence[Any]) -> Any:
        reads.append(len(seen))
        return changed_since(tx, seen)

    monkeypatch.setattr(api.job_news, "changed_since", counted)
    wait_until(lambda: reads[-2:] == [5, 5])
    # When the jobs end, then everybody is told
    for job_id in job_ids:
        move(shop, job_id, "cancelled")
    assert [stream.job()[1] for stream in streams] == ["cancelled"] * 5
    assert [stream.next() for stream in streams] == [None] * 5


def test_when_the_time_is_up_the_answer_is_what_there_is(customer: Customer, job_id: UUID) -> None:
    plain = customer.get(f"/jobs/{job_id}", headers={"Prefer": "wait=1"})
    assert (plain.status_code, plain.json()["data"]["state"]) == (200, "queued")
    assert plain.headers["Preference-Applied"] == "wait=1"
    assert plain.elapsed.total_seconds() >= 1
    seen = plain.headers["ETag"]
    same = customer.get(f"/jobs/{job_id}", headers={"Prefer": "wait=1", "If-None-Match": f'"77", W/{seen}'})
    assert (same.status_code, same.content) == (304, b"")
    assert (same.headers["ETag"], same.headers["Preference-Applied"]) == (seen, "wait=1")
    assert same.elapsed.total_seconds() >= 1


def test_nobody_waits_for_a_job_that_has_ended_or_that_differs_already(shop: Shop, customer: Customer) -> None:
    job_id = customer.reported()[1]
    other_tag = customer.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30", "If-None-Match": '"77"'})
    assert (other_tag.status_code, other_tag.json()["data"]["state"]) == (200, "queued")
    version = move(shop, job_id, "dead")
    done = customer.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30"})
    assert (done.status_code, done.headers["ETag"], done.json()["data"]["state"]) == (200, f'"{version}"', "dead")
    seen = customer.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30", "If-None-Match": done.headers["ETag"]})
    assert seen.status_code == 304
    assert max(answer.elapsed.total_seconds() for answer in (other_tag, done, seen)) < 10


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "wait", 'wait="5"', "respond-async", "wait=0.5"])
def test_a_preference_that_is_malformed_or_another_is_ignored(customer: Customer, job_id: UUID, prefer: str) -> None:
    answer = customer.get(f"/jobs/{job_id}", headers={"Prefer": prefer})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_a_stream_tells_each_state_as_reading_shows_it_and_ends_with_the_job(
    only_word: None, shop: Shop, server: Served, customer: Customer, job_id: UUID, say: Callable[..., int]
) -> None:
    stream = server.follow(job_id, customer.key)
    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert stream.job() == ("1", "queued")
    version = move(shop, job_id, "running")
    say(job_id)
    assert stream.job() == (version, "running")
    version = move(shop, job_id, "succeeded")
    say(job_id)
    assert stream.job() == (version, "succeeded")
    assert stream.next() is None
    # Whoever asks again is told once more, or, having heard it, to stop asking
    again = server.follow(job_id, customer.key)
    told = again.next()
    assert told is not None
    assert told["data"] == customer.get(f"/jobs/{job_id}").text.partition('"data":')[2].removesuffix("}")
    assert again.next() is None
    status, body, _ = server.read(f"{V1}/jobs/{job_id}/events", X_API_Key=customer.key, Last_Event_ID=version)
    assert (status, body) == (204, None)


def test_a_stream_resumes_behind_the_last_event_seen(
    only_word: None, shop: Shop, server: Served, customer: Customer, job_id: UUID, say: Callable[..., int]
) -> None:
    behind, level = (server.follow(job_id, customer.key, Last_Event_ID=seen) for seen in ("nonsense", "1"))
    assert behind.job() == ("1", "queued")
    wait_until(lambda: waiters() >= 2)
    version = move(shop, job_id, "dead")
    say(job_id)
    assert level.job() == behind.job() == (version, "dead")
    # And a replay makes it go on: the version of the death has been seen, the job lives
    replayed = move(shop, job_id, "queued")
    resumed = server.follow(job_id, customer.key, Last_Event_ID=version)
    assert resumed.job() == (replayed, "queued")
    resumed.hang_up()


def test_a_silent_stream_beats_and_a_long_one_ends_so_that_its_key_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, server: Served, customer: Customer, job_id: UUID
) -> None:
    monkeypatch.setattr(api.routes.job_events, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(api.routes.job_events, "LONGEST_STREAM_S", 0.5)
    stream = server.follow(job_id, customer.key, Last_Event_ID="1")
    beats = []
    while (beat := stream.next()) is not None:
        beats.append(beat)
    assert len(beats) > 1
    assert all(beat == {"": "nothing new"} for beat in beats)


def test_a_cancel_over_the_api_is_heard_here_and_elsewhere(
    only_word: None, server: Served, customer: Customer, job_id: UUID
) -> None:
    with polling(server, job_id, customer.key) as answer:  # `server` is another process of the API than `customer` asks
        assert customer.post(f"/jobs/{job_id}/cancel").status_code == 202
        assert answer.result(20)[1]["data"]["state"] == "cancelled"


def test_jobs_of_other_tenants_do_not_exist(server: Served, other: Customer, job_id: UUID) -> None:
    for path, headers in ((f"{V1}/jobs/{job_id}/events", {}), (f"{V1}/jobs/{job_id}", {"Prefer": "wait=30"})):
        status, body, _ = server.read(path, X_API_Key=other.key, **headers)
        assert (status, body["error"]["code"]) == (404, "NOT_FOUND")
        status, body, _ = server.read(path, **headers)
        assert (status, body["error"]["code"]) == (401, "UNAUTHENTICATED")


def test_who_hangs_up_is_waited_for_no_longer(server: Served, customer: Customer, job_id: UUID) -> None:
    stream = server.follow(job_id, customer.key)
    poll = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    poll.request("GET", f"{V1}/jobs/{job_id}", headers={"X-API-Key": customer.key, "Prefer": "wait=30"})
    wait_until(lambda: waiters() == 2)
    poll.close()
    wait_until(lambda: waiters() == 1, 10)
    stream.hang_up()
    wait_until(lambda: waiters() == 0, 10)


@pytest.mark.parametrize("cap", ["MOST_PER_TENANT", "MOST_WAITERS"])
def test_only_so_many_may_wait(
    monkeypatch: pytest.MonkeyPatch, server: Served, customer: Customer, other: Customer, job_id: UUID, cap: str
) -> None:
    monkeypatch.setattr(api.job_news, cap, 1)
    stream = server.follow(job_id, customer.key)
    wait_until(lambda: waiters() >= 1)
    for path, headers in ((f"{V1}/jobs/{job_id}/events", {}), (f"{V1}/jobs/{job_id}", {"Prefer": "wait=30"})):
        status, body, answered = server.read(path, X_API_Key=customer.key, **headers)
        assert (status, body["error"]["code"], answered["retry-after"]) == (503, "OVERLOADED", "1")
    # Asking without waiting always works; other tenants have room as long as the process has
    assert server.read(f"{V1}/jobs/{job_id}", X_API_Key=customer.key)[0] == 200
    theirs = other.reported()[1]
    status, _, _ = server.read(f"{V1}/jobs/{theirs}", X_API_Key=other.key, Prefer="wait=1")
    assert status == (200 if cap == "MOST_PER_TENANT" else 503)
    stream.hang_up()


def test_no_more_may_wait_when_they_come_all_at_once(
    monkeypatch: pytest.MonkeyPatch, server: Served, customer: Customer, job_id: UUID
) -> None:
    monkeypatch.setattr(api.job_news, "MOST_PER_TENANT", 3)
    assert server.read(f"{V1}/jobs/{job_id}", X_API_Key=customer.key)[0] == 200  # his key is known
    wait_until(lambda: waiters() == 0, 10)
    with ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(server.get, f"{V1}/jobs/{job_id}/events", X_API_Key=customer.key) for _ in range(30)]
        answers = [future.result(20) for future in asked]
    statuses = [response.status for _, response in answers]
    for connection, response in answers:
        response.close()
        connection.close()
    assert sorted(statuses) == [200] * 3 + [503] * 27
    wait_until(lambda: waiters() == 0, 10)


def test_a_stream_that_is_dropped_before_it_began_gives_its_place_back(customer: Customer, job_id: UUID) -> None:
    async def drop() -> None:
        news = JobNews(customer.shop.engine, customer.shop.settings.redis_url)
        with customer.shop.engine.connect() as connection:
            job = get_job(connection, customer.tenant_id, job_id)
        before = waiters()
        answer = events_of(news, job, seen=False)
        await anext(answer)
        assert waiters() == before + 1
        del answer
        gc.collect()
        while waiters() > before:  # noqa: ASYNC110  # it is a wait-until
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(drop(), 20))


def test_changes_are_read_for_the_tenant_that_waits_only(shop: Shop, customer: Customer, other: Customer) -> None:
    job_id = customer.reported()[1]
    with shop.engine.begin() as tx:
        tx.execute(text("UPDATE jobs SET version = 5 WHERE id = :id"), {"id": job_id})
        mine = changed_since(tx, [(customer.tenant_id, job_id, 4)])
        assert [(row.id, row.version) for row in mine] == [(job_id, 5)]
        assert changed_since(tx, [(customer.tenant_id, job_id, 5)]) == []
        assert changed_since(tx, [(other.tenant_id, job_id, 4)]) == []
        assert changed_since(tx, []) == []


def test_a_reading_that_fails_is_followed_by_one_that_works(
    only_word: None,
    monkeypatch: pytest.MonkeyPatch,
    shop: Shop,
    server: Served,
    customer: Customer,
    job_id: UUID,
    say: Callable[..., int],
) -> None:
    failed: list[int] = []

    def fail_once(tx: Any, seen: Sequence[Any]) -> Any:
        if not failed:
            failed.append(len(seen))
            raise OperationalError("SELECT", {}, Exception("the server is away"))
        return changed_since(tx, seen)

    with polling(server, job_id, customer.key) as answer:
        monkeypatch.setattr(api.job_news, "changed_since", fail_once)
        move(shop, job_id, "succeeded")
        say(job_id)
        assert answer.result(20)[1]["data"]["state"] == "succeeded"
    assert failed == [1]


def test_a_result_that_has_expired_is_another_answer_under_another_etag(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, customer: Customer, job_id: UUID
) -> None:
    shop.scalar("UPDATE jobs SET state = 'succeeded', result = '{\"rows\": 1}' WHERE id = :id RETURNING 1", id=job_id)
    fresh = customer.get(f"/jobs/{job_id}")
    monkeypatch.setattr(api.routes.jobs, "readable_result", lambda *_: None)
    expired = customer.get(f"/jobs/{job_id}", headers={"If-None-Match": fresh.headers["ETag"]})
    assert (fresh.json()["data"]["result"], expired.json()["data"]["result"]) == ({"rows": 1}, None)
    again = customer.get(f"/jobs/{job_id}", headers={"If-None-Match": expired.headers["ETag"]})
    assert again.status_code == 304
