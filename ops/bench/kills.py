"""kills: from kill -9 of a worker under load to the next start of each job it was running; and what SIGTERM leaves.

Jobs come at a steady rate that one worker can bear. Which jobs a worker took with it, the database tells right after.
"""

import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import text

from ops.bench.feeding import Feeder
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.handlers import QUEUE, Nap
from ops.bench.recovery import Kill, longest_wait, re_runs
from ops.bench.spread import percentile

KILLS, QUICK_KILLS = 100, 5
EVERY_S = 2.0
NAP_S, JOBS_PER_S = 0.05, 40.0
RE_RUN_P99_S, STOP_WITHIN_S = 10.0, 30.0
_FLEET = ("relay", "rescuer", "worker-1", "worker-2")
_WORKERS = _FLEET[2:]
_HEAL_WITHIN_S = 90.0

_TAKEN = text(
    """
    SELECT CAST(args ->> 'number' AS float8) FROM jobs
     WHERE state = 'running' AND worker_id = (
           SELECT id FROM workers WHERE pid = :pid ORDER BY started_at DESC LIMIT 1)
    """
)
_OPEN = "SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'dead', 'cancelled')"
_RUNNING = "SELECT count(*) FROM jobs WHERE state = 'running'"
_DEAD = "SELECT count(*) FROM jobs WHERE state = 'dead'"


class Stop(msgspec.Struct, frozen=True):
    """How the fleet stopped: seconds to the last exit, exit codes, jobs left running."""

    seconds: float
    codes: dict[str, int]
    running: int


def kills(run: Run) -> Figure:
    """Once: every kill is a repeat."""
    count = QUICK_KILLS if run.quick else KILLS
    with fleet() as running:
        feeder = Feeder(running, lambda number: Nap(number, NAP_S))
        _start(running)
        running.wait_ready(*_FLEET)
        with feeder.offering(JOBS_PER_S):
            killed = _kill_again_and_again(running, run, count)
        _wait_until_done(running)
        with feeder.offering(JOBS_PER_S):
            time.sleep(EVERY_S)
            run.say("kills: SIGTERM under load")
            stop = _stop(running)
        _start(running)
        _wait_until_done(running)
        marks, dead = running.sink.marks(), running.ask(_DEAD)
    delays = re_runs(marks, killed)
    if not delays:
        raise BenchFailed("no kill hit a job")
    lost = len(set(range(len(feeder.sent))) - {int(number) for number, _ in marks})
    rows = _rows(count, delays, lost, dead, stop)
    rows.append({"what": "commit to start of any job, most", "s": longest_wait(feeder.sent, marks)})
    return Figure("kills", "kill -9 and SIGTERM under load", rows, _goals(delays, lost, stop))


def _start(running: Fleet) -> None:
    running.start("relay", "relay")
    running.start("rescuer", "rescuer")
    running.start_workers(QUEUE)


def _kill_again_and_again(running: Fleet, run: Run, count: int) -> list[Kill]:
    """The workers by turns. A killed one is started again at once."""
    killed = list[Kill]()
    time.sleep(EVERY_S)
    for number in range(count):
        if number % 10 == 0:
            run.say(f"kills: {number} of {count}")
        name = _WORKERS[number % len(_WORKERS)]
        running.wait_ready(name)
        pid, moment = running.pids[name], time.monotonic()
        running.kill(name)
        with running.engine.connect() as connection:
            killed.append(Kill(moment, list(connection.execute(_TAKEN, {"pid": pid}).scalars())))
        running.start(name, "worker", "--queues", QUEUE)
        time.sleep(max(0.0, moment + EVERY_S - time.monotonic()))
    return killed


def _stop(running: Fleet) -> Stop:
    began = time.monotonic()
    codes = running.stop(*_FLEET)
    return Stop(time.monotonic() - began, codes, running.ask(_RUNNING))


def _wait_until_done(running: Fleet) -> None:
    running.wait(lambda: not running.ask(_OPEN), "not every job came to its end", _HEAL_WITHIN_S, 0.2)


def _rows(count: int, delays: Sequence[float], lost: int, dead: int, stop: Stop) -> list[dict[str, Value]]:
    codes = ", ".join(f"{name} {code}" for name, code in stop.codes.items())
    return [
        {"what": "kill -9 of a worker", "times": float(count)},
        {"what": "jobs it was running", "times": float(len(delays))},
        {"what": "jobs dead after three crashes", "times": float(dead)},
        {"what": "jobs lost", "times": float(lost)},
        {"what": "kill to re-run, p50", "s": percentile(delays, 50)},
        {"what": "kill to re-run, p99", "s": percentile(delays, 99)},
        {"what": "kill to re-run, most", "s": max(delays)},
        {"what": f"SIGTERM to the last exit ({codes})", "s": stop.seconds},
    ]


def _goals(delays: Sequence[float], lost: int, stop: Stop) -> list[Goal]:
    unclean = sum(code != 0 for code in stop.codes.values())
    return [
        Goal("kill -9 to re-run, p99 in s", percentile(delays, 99), RE_RUN_P99_S, at_most=True),
        Goal("SIGTERM to the last exit, s", stop.seconds, STOP_WITHIN_S, at_most=True),
        Goal("exit codes after SIGTERM other than 0", float(unclean), 0.0, at_most=True),
        Goal("jobs left running after SIGTERM", float(stop.running), 0.0, at_most=True),
        Goal("jobs lost", float(lost), 0.0, at_most=True),
    ]
