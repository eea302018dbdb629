"""What is known to go wrong between Dramatiq and Redis does no harm here: every job runs, and none has two effects.

Each test is one of the faults that Dramatiq's own Redis broker was seen to have; docs/decisions/0004 tells of them. For
lost replies see test_lost_replies.py, for clocks that disagree test_wrong_clocks.py.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import dramatiq
import pytest
from redis import Redis

from domain.jobs.kind import JobArgs, kind_of
from tests.end_to_end.own_kinds import QUEUE
from tests.end_to_end.own_worker import Effect, Nap, Stumble, all_end, each_ran_once, enqueued, job, own_worker, state
from tests.end_to_end.running import Running, wait_until
from tests.integration.wire import wire_to
from workers.broker import ACTOR, bell_list


@pytest.fixture
def redis(system: Running) -> Iterator[Redis]:
    with Redis.from_url(system.env["REDIS_URL"]) as client:
        yield client


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def bell(args: JobArgs, ids: Sequence[UUID]) -> bytes:
    ringing = (kind_of(args).name, [job_id.hex for job_id in ids])
    message: dramatiq.Message[object] = dramatiq.Message(QUEUE, ACTOR, ringing, {}, {})
    return message.encode()


@pytest.mark.timeout(120)
def test_bells_whose_delivery_was_lost_are_not_stranded_in_a_living_worker(
    system: Running, tmp_path: Path, effects: Path
) -> None:
    with wire_to(system.env["REDIS_URL"]) as (wire, url), own_worker(system, tmp_path, REDIS_URL=url):
        # Given a worker that takes a bell off its list, and whose connection breaks before it has heard it
        wire.lose_answer_with(b"own.effect")
        ids = enqueued(system, *(Effect(str(effects)) for _ in range(8)))
        assert wire.seen.wait(30)
        # Then the same worker hears of the jobs again
        all_end(system, ids, "succeeded", within_s=40)
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_a_redis_that_fails_while_a_job_fails_loses_no_retry(system: Running, tmp_path: Path, redis: Redis) -> None:
    with wire_to(system.env["REDIS_URL"]) as (wire, url), own_worker(system, tmp_path, REDIS_URL=url):
        (job_id,) = enqueued(system, Stumble())
        for attempt in (1, 2):
            # Given a job whose attempt has failed, when every connection breaks and Redis forgets everything
            wait_until(lambda: job(system, job_id).attempt >= attempt)  # noqa: B023  # asked at once
            wire.cut()
            redis.flushall()
        # Then it is tried as often as its kind says
        all_end(system, [job_id], "dead", within_s=60)
    assert job(system, job_id).attempt == 3


@pytest.mark.timeout(120)
def test_bells_that_are_rung_again_and_again_run_nothing_twice(
    system: Running, tmp_path: Path, effects: Path, redis: Redis
) -> None:
    ids = enqueued(system, *(Effect(str(effects)) for _ in range(8)))
    for _ in range(30):  # a push repeated after a lost reply, an acknowledgement that was never heard
        redis.rpush(bell_list(QUEUE), bell(Effect(""), ids))
    with own_worker(system, tmp_path):
        all_end(system, ids, "succeeded")
        redis.rpush(bell_list(QUEUE), bell(Effect(""), ids))
        wait_until(lambda: redis.llen(bell_list(QUEUE)) == 0)
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_garbage_among_the_bells_strands_none_of_them(
    system: Running, tmp_path: Path, effects: Path, redis: Redis
) -> None:
    garbage = [b"", b"\xff\xfe\x00", b"[1, 2]", b'{"queue_name": "own"}', b"[" * 10_000]
    for _ in range(5):
        redis.rpush(bell_list(QUEUE), *garbage)
    ids = enqueued(system, *(Effect(str(effects)) for _ in range(8)))
    with own_worker(system, tmp_path):
        all_end(system, ids, "succeeded")
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_jobs_of_the_future_survive_a_connection_error_and_an_empty_redis(
    system: Running, tmp_path: Path, effects: Path, redis: Redis
) -> None:
    with wire_to(system.env["REDIS_URL"]) as (wire, url), own_worker(system, tmp_path, REDIS_URL=url):
        ids = enqueued(system, *(Effect(str(effects)) for _ in range(8)), due_in_s=3.0)
        assert {state(system, one) for one in ids} == {"scheduled"}
        wire.cut()
        redis.flushall()
        all_end(system, ids, "succeeded", within_s=40)
    each_ran_once(system, effects, ids)


@pytest.mark.timeout(120)
def test_a_worker_whose_threads_are_all_busy_for_longer_than_a_lease_is_not_taken_for_dead(
    system: Running, tmp_path: Path, effects: Path
) -> None:
    # Given as many long jobs as there are threads, and more that wait, so that no bell can be taken for a while
    with own_worker(system, tmp_path, WORKER_THREADS="2"):
        busy = enqueued(system, *(Nap(11.0, 0.0, str(effects)) for _ in range(2)))
        wait_until(lambda: {state(system, one) for one in busy} == {"running"})
        waiting = enqueued(system, *(Effect(str(effects)) for _ in range(8)))
        # Then nobody takes them over, and all of them run once
        all_end(system, [*busy, *waiting], "succeeded", within_s=60)
    each_ran_once(system, effects, [*busy, *waiting])


@pytest.mark.timeout(120)
def test_a_worker_killed_with_bells_in_hand_takes_no_job_with_it(
    system: Running, tmp_path: Path, effects: Path
) -> None:
    # Given a worker that is killed as soon as it has taken the first of many bells
    ids = enqueued(system, *(Nap(0.5, 0.0, str(effects)) for _ in range(12)))
    with own_worker(system, tmp_path) as worker:
        wait_until(lambda: "running" in {state(system, one) for one in ids})
        worker.process.kill()
    # Then another one does what is left
    with own_worker(system, tmp_path):
        all_end(system, ids, "succeeded", within_s=60)
    assert set(effects.read_text().split()) == set(map(str, ids))
    assert {job(system, one).crashes for one in ids} <= {0, 1}
