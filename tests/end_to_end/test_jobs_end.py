"""Jobs as the fleet runs them: tried again as their kind says, cut off in time, repeated without a second effect."""

import signal
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from domain.jobs.kind import kind_of
from tests.end_to_end.dev_servers import ask, fetched
from tests.end_to_end.own_kinds import QUEUE
from tests.end_to_end.own_worker import (
    Effect,
    Hang,
    Letter,
    Overrun,
    Stumble,
    all_end,
    enqueued,
    job,
    own_worker,
    state,
)
from tests.end_to_end.running import Running, stopped, wait_until
from workers.broker import bell_list

_ATTEMPTS = """
    SELECT number, outcome, error_class, started_at, finished_at FROM attempts WHERE job_id = :id ORDER BY number
"""


def test_a_job_that_keeps_failing_is_tried_as_often_as_its_kind_says_then_dead(system: Running, tmp_path: Path) -> None:
    # Given a kind with three attempts, a second and two apart at most
    with own_worker(system, tmp_path):
        (job_id,) = enqueued(system, Stumble())
        wait_until(lambda: state(system, job_id) == "retrying")
        all_end(system, [job_id], "dead")
    # Then it has waited and run three times, and lies dead with a dead letter
    tries = system.query(_ATTEMPTS, id=job_id)
    assert [(one.number, one.outcome, one.error_class) for one in tries] == [
        (1, "retrying", "ConnectionResetError"),
        (2, "retrying", "ConnectionResetError"),
        (3, "dead", "ConnectionResetError"),
    ]
    gaps_s = [(b.started_at - a.finished_at).total_seconds() for a, b in pairwise(tries)]
    bounds_s = [kind_of(Stumble()).retry.delay_s(number, 1.0) for number in (1, 2)]
    assert bounds_s == [1.0, 2.0]
    slack_s = 3.0  # what a busy machine may take to ring and claim
    assert all(0 <= gap <= bound + slack_s for gap, bound in zip(gaps_s, bounds_s, strict=True)), gaps_s
    assert system.query("SELECT cause FROM dead_letters WHERE job_id = :id", id=job_id) == [("attempts",)]


def test_a_job_past_its_time_is_tried_again_then_dead_and_its_attempts_say_why(system: Running, tmp_path: Path) -> None:
    with own_worker(system, tmp_path):
        (job_id,) = enqueued(system, Overrun())
        all_end(system, [job_id], "dead")
    tries = system.query(_ATTEMPTS, id=job_id)
    assert [(one.outcome, one.error_class) for one in tries] == [("retrying", "TimedOut"), ("dead", "TimedOut")]


@pytest.mark.timeout(120)
def test_a_worker_that_lost_half_of_its_threads_to_jobs_that_never_return_makes_room_for_another(
    system: Running, tmp_path: Path
) -> None:
    with own_worker(system, tmp_path, allowed_s=8, WORKER_THREADS="2") as worker:
        (job_id,) = enqueued(system, Hang())
        assert worker.process.wait(60) == 1
        (said,) = worker.said("worker.stuck")
    assert (said["threads"], said["of"]) == (1, 2)
    assert state(system, job_id) == "dead"


@pytest.mark.timeout(120)
def test_a_worker_killed_after_the_send_and_before_its_record_repeats_the_mail_under_one_id(
    system: Running, tmp_path: Path
) -> None:
    # Given a job whose worker is killed when its mail is out and nobody has written so
    with own_worker(system, tmp_path) as first:
        (job_id,) = enqueued(system, Letter(f"{uuid4().hex}@example.com"))
        assert first.process.wait(30) == -signal.SIGKILL
    assert state(system, job_id) == "running"
    # When its lease has run out and another worker does it
    with own_worker(system, tmp_path):
        all_end(system, [job_id], "succeeded", within_s=40)
    # Then the mail went out twice at most, under one Message-ID, and a mailbox shows it once
    assert (job(system, job_id).attempt, job(system, job_id).crashes) == (2, 1)
    mails = ask(system.env["INBOX_URL"], f"/messages?about={job_id}")
    assert [mail["copies"] for mail in mails] in ([1], [2])


def depth(system: Running, queue: str) -> float:
    """What waits or runs, as Prometheus reads it."""
    families = text_string_to_metric_families(fetched(system.env["LONGSHORE_URL"], "/metrics").decode())
    samples = [sample for family in families for sample in family.samples if sample.name == "longshore_queue_depth"]
    return sum(one.value for one in samples if one.labels["queue"] == queue and one.labels["state"] != "dead")


@pytest.mark.timeout(120)
def test_the_depth_of_a_queue_rises_while_its_worker_stands_still_and_falls_when_it_works(system: Running) -> None:
    sku = system.product(50)
    with stopped(system.pids()["worker-inventory"]):
        for _ in range(50):
            system.order(sku)
        wait_until(lambda: depth(system, "inventory") >= 50, 10)
    wait_until(lambda: depth(system, "inventory") == 0, 40)


@pytest.mark.timeout(150)
def test_a_hundred_jobs_whose_bells_were_lost_ring_again_by_themselves(system: Running, tmp_path: Path) -> None:
    # Given a hundred jobs that have been rung
    effects = tmp_path / "effects"
    ids = enqueued(system, *(Effect(str(effects)) for _ in range(100)))
    with Redis.from_url(system.env["REDIS_URL"]) as redis:
        wait_until(lambda: redis.llen(bell_list(QUEUE)) > 0)
        # When Redis forgets everything
        redis.flushall()
    # Then all of them are done within a minute, each once, and nobody had to do anything
    with own_worker(system, tmp_path):
        all_end(system, ids, "succeeded", within_s=60)
    assert sorted(effects.read_text().split()) == sorted(map(str, ids))
    assert system.query("SELECT DISTINCT claim, attempt FROM jobs WHERE id = ANY(:ids)", ids=ids) == [(1, 1)]
