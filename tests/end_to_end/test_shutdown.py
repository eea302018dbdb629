"""SIGTERM: a process stops taking, lets what runs end or hands it back, and leaves with exit code 0."""

import os
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.end_to_end.own_worker import Nap, all_end, enqueued, job, own_worker, state
from tests.end_to_end.running import Running, wait_until


def outcomes(system: Running, job_id: UUID) -> list[str]:
    found = system.query("SELECT outcome FROM attempts WHERE job_id = :id ORDER BY claim", id=job_id)
    return [outcome for (outcome,) in found]


@pytest.mark.timeout(120)
def test_a_short_job_ends_and_a_long_one_is_handed_back_and_done_by_the_next_worker(
    system: Running, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with own_worker(system, tmp_path, allowed_s=12) as worker:
        # Given a worker with a job that will end in time and one that will not
        (short,) = enqueued(system, Nap(5.0, 5.0, str(effects)))
        (long,) = enqueued(system, Nap(60.0, 0.0, str(effects)))
        wait_until(lambda: state(system, short) == state(system, long) == "running")
        # When it is told to stop
        started = time.monotonic()
        code = worker.told_to_stop()
        # Then it leaves cleanly within its time; the short job is done, the long one waits and has its attempt back
        assert code == 0
        assert time.monotonic() - started < 12 + 5
        assert len(worker.said("shutdown_started")) == len(worker.said("shutdown_complete")) == 1
    assert state(system, short) == "succeeded"
    row = job(system, long)
    assert (row.state, row.attempt, row.claim) == ("queued", 0, 1)
    assert outcomes(system, long) == ["handed_back"]
    # And the next worker does it, with one effect in all
    with own_worker(system, tmp_path):
        all_end(system, [long], "succeeded")
    row = job(system, long)
    assert (row.attempt, row.claim) == (1, 2)
    assert sorted(effects.read_text().split()) == sorted(map(str, [short, long]))


@pytest.mark.timeout(120)
def test_a_worker_that_cannot_stop_in_time_says_so_and_leaves_with_one(system: Running, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with own_worker(system, tmp_path, allowed_s=2) as worker:
        # Given a worker with a job that it can neither finish nor hand back
        (long,) = enqueued(system, Nap(60.0, 0.0, str(effects)))
        wait_until(lambda: state(system, long) == "running")
        with system.engine.connect() as connection:
            connection.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": long})
            # When it is told to stop
            assert worker.told_to_stop() == 1
            connection.rollback()
        assert len(worker.said("shutdown_forced")) == 1
        assert worker.said("shutdown_complete") == []
    # Then its lease runs out, and another worker does the job
    with own_worker(system, tmp_path):
        all_end(system, [long], "succeeded", within_s=40)
    assert effects.read_text().split() == [str(long)]


@pytest.mark.timeout(120)
def test_the_api_finishes_what_is_in_flight_and_leaves_with_zero(system: Running) -> None:
    # Given the API with orders coming in
    sku = system.product(400)
    before = system.pids()["web"]
    # When it is told to stop in the middle; the supervisor starts it again
    accepted = system.orders(sku, 60, lambda: os.kill(system.pids()["web"], signal.SIGTERM))
    # Then every order was accepted, by it or by its successor, and each only once
    wait_until(lambda: system.pids()["web"] != before)
    assert len(set(accepted)) == 60
    log = (system.data.parent / "up.log").read_text()
    assert "shutdown_complete" in log
