"""Bundle mates by themselves: neither a slow nor a deadly one, nor a worker that stops, costs the others anything."""

import signal
from pathlib import Path

import pytest

from domain.jobs.kind import JobArgs
from tests.end_to_end.own_worker import AsyncStep, Deadly, Step, all_end, enqueued, job, own_worker, state
from tests.end_to_end.running import Running, wait_until

SLOW_S = 8.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [Step, AsyncStep])
def test_a_slow_job_delays_no_mates_outcome(system: Running, tmp_path: Path, kind: type[JobArgs]) -> None:
    # Given a bundle whose first job is slow
    effects = tmp_path / "effects"
    slow, *quick = enqueued(system, kind(SLOW_S, str(effects)), *(kind(0.0, str(effects)) for _ in range(9)))
    with own_worker(system, tmp_path):
        # When it runs
        all_end(system, quick, "succeeded")
        # Then its mates are done and recorded while it is still at it, and each of them ran once
        assert state(system, slow) == "running"
        all_end(system, [slow], "succeeded")
    assert sorted(effects.read_text().split()) == sorted(map(str, [slow, *quick]))
    assert {job(system, mate).attempt for mate in (slow, *quick)} == {1}


@pytest.mark.timeout(120)
def test_a_worker_that_stops_gives_the_rest_of_a_bundle_back_at_once(system: Running, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    slow, *mates = enqueued(system, Step(SLOW_S, str(effects)), *(Step(0.0, str(effects)) for _ in range(9)))
    with own_worker(system, tmp_path, allowed_s=20) as worker:
        # Given a worker that has claimed a bundle and is busy with its first job
        wait_until(lambda: state(system, slow) == "running")
        # When it is told to stop
        worker.process.send_signal(signal.SIGTERM)
        # Then nobody waits for the first job to end
        wait_until(lambda: "running" not in {state(system, mate) for mate in mates}, SLOW_S)
        assert state(system, slow) == "running"
        assert worker.process.wait(30) == 0
    # And the first job was done by it, the others by the next worker if not by it, each once
    assert state(system, slow) == "succeeded"
    with own_worker(system, tmp_path):
        all_end(system, mates, "succeeded")
    assert sorted(effects.read_text().split()) == sorted(map(str, [slow, *mates]))
    assert {job(system, mate).attempt for mate in (slow, *mates)} == {1}


@pytest.mark.timeout(400)
def test_a_job_that_kills_its_worker_is_dead_after_three_crashes_and_its_mates_are_done(
    system: Running, tmp_path: Path
) -> None:
    # Given a bundle with one deadly job, and a supervisor that starts its workers again
    effects = tmp_path / "effects"
    jobs = [Deadly(number == 3, str(effects)) for number in range(10)]
    ids = enqueued(system, *jobs)
    guilty, mates = ids[3], [one for number, one in enumerate(ids) if number != 3]
    crashes = 0
    while state(system, guilty) != "dead":
        with own_worker(system, tmp_path) as worker:
            wait_until(lambda: worker.process.poll() is not None or state(system, guilty) == "dead", 100)
            crashes += worker.process.poll() is not None
    # Then three workers died of it, and it died of that
    with own_worker(system, tmp_path):
        all_end(system, mates, "succeeded", within_s=100)
    assert crashes == job(system, guilty).crashes == 3
    assert system.query("SELECT cause FROM dead_letters WHERE job_id = :id", id=guilty) == [("crashes",)]
    # And its mates, of which some were beside it again when they all came back, were done
    assert {job(system, mate).crashes for mate in mates} <= {0, 1}
    assert set(effects.read_text().split()) == set(map(str, mates))
