"""snapshot: jobs per second while another session holds a snapshot, which keeps PostgreSQL from cleaning up.

The queue is never empty. Before, and in the last third of the hold, when most has piled up.
"""

import time

from sqlalchemy import text

from ops.bench.feeding import Feeder
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.handlers import Noop
from ops.bench.ours import start_fleet

HOLD_S, QUICK_HOLD_S = 180.0, 24.0
WARM_UP_S = 5.0
WAITING, EACH = 4_000, 1_000
LEAST_LEFT = 0.85


def snapshot(run: Run) -> Figure:
    """Once: three minutes of load say more than three times one."""
    hold_s = QUICK_HOLD_S if run.quick else HOLD_S
    with fleet() as running:
        feeder = Feeder(running, Noop)
        with feeder.keeping(WAITING, EACH):
            start_fleet(running)
            if running.sink.wait_for(WAITING, 30.0) < WAITING:
                raise BenchFailed(f"no load came up:\n{running.last_words('worker-1')}")
            time.sleep(WARM_UP_S)
            run.say(f"snapshot: {hold_s / 3:.0f} s without")
            free = _jobs_per_s(running, hold_s / 3)
            run.say(f"snapshot: {hold_s:.0f} s with")
            with running.engine.connect() as other:
                other.execute(text("SET idle_in_transaction_session_timeout = 0"))
                other.commit()
                other.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                other.execute(text("SELECT count(*) FROM outbox"))
                early = _jobs_per_s(running, hold_s / 3)
                middle = _jobs_per_s(running, hold_s / 3)
                late = _jobs_per_s(running, hold_s / 3)
    rows: list[dict[str, Value]] = [
        {"while": "nobody holds a snapshot", "jobs/s": free},
        {"while": f"held, first {hold_s / 3:.0f} s", "jobs/s": early},
        {"while": f"held, next {hold_s / 3:.0f} s", "jobs/s": middle},
        {"while": f"held, last {hold_s / 3:.0f} s", "jobs/s": late},
    ]
    goals = [Goal(f"jobs per second at the end of {hold_s:.0f} s, times those before", late / free, LEAST_LEFT)]
    return Figure("snapshot", "Jobs per second while a snapshot is held", rows, goals)


def _jobs_per_s(running: Fleet, seconds: float) -> float:
    before, started = running.sink.count(), time.monotonic()
    time.sleep(seconds)
    return (running.sink.count() - before) / (time.monotonic() - started)
