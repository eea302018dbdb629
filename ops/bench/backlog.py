"""backlog: what a job costs while a thousand jobs wait, and while a million do.

CPU time of real processes, warm, per job: the relay's, PostgreSQL's, the workers'. A thousand at a time on one side,
the first of a million on the other.
"""

import time
from collections.abc import Sequence

from ops.bench.cost import cpu_seconds
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.ours import fill, held, start_fleet, wait_until_idle
from ops.bench.spread import Spread, spread

FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 100_000
JOBS, QUICK_JOBS = 30_000, 10_000
MOST_GROWTH = 1.2
#: After the last start: outcomes are written, nothing else happens.
_SETTLE_S = 0.1
_SLOWEST_JOBS_PER_S = 200

Named = dict[str, float]


def backlog(run: Run) -> Figure:
    """Medians of the repeats."""
    most, jobs = (QUICK_MANY, QUICK_JOBS) if run.quick else (MANY, JOBS)
    few, many = list[Named](), list[Named]()
    for repeat in range(1, run.repeats + 1):
        run.say(f"backlog {repeat}/{run.repeats}: {FEW:,} and {most:,} jobs waiting")
        with fleet() as running:
            start_fleet(running)
            _few(running, FEW)  # warm
            few.append(_few(running, jobs))
            many.append(_many(running, most, jobs))
    rows: list[dict[str, Value]] = [_row(size, found) for size, found in ((FEW, few), (most, many))]
    goals = [
        Goal(
            f"CPU time per job of {name}, {most:,} jobs waiting over {FEW:,}",
            _spread(many, name).median / _spread(few, name).median,
            MOST_GROWTH,
            at_most=True,
        )
        for name in ("relay", "postgresql")
    ]
    return Figure("backlog", "Cost of a job as the backlog grows, CPU us", rows, goals)


def _few(running: Fleet, jobs: int) -> Named:
    """So many jobs, a thousand at a time."""
    spent = Named()
    for _ in range(0, jobs, FEW):
        wait_until_idle(running)
        with held(running, "relay"):
            fill(running, range(FEW))
            before, started = cpu_seconds(running.pids), running.sink.count()
        _wait_for(running, started + FEW)
        after = cpu_seconds(running.pids)
        spent = {name: spent.get(name, 0.0) + after[name] - before[name] for name in before}
    return _per_job(spent, jobs)


def _many(running: Fleet, waiting: int, jobs: int) -> Named:
    """The first so many of all that wait."""
    wait_until_idle(running)
    with held(running, "relay"):
        fill(running, range(waiting))
        with running.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE) outbox, jobs")  # as autovacuum would, had it the time
            connection.exec_driver_sql("CHECKPOINT")
        before, started = cpu_seconds(running.pids), running.sink.count()
    _wait_for(running, started + jobs)
    after, ran = cpu_seconds(running.pids), running.sink.count() - started
    return _per_job({name: after[name] - before[name] for name in before}, ran)


def _wait_for(running: Fleet, count: int) -> None:
    if (seen := running.sink.wait_for(count, 30 + count / _SLOWEST_JOBS_PER_S)) < count:
        raise BenchFailed(f"{seen} of {count} jobs ran; the relay said:\n{running.last_words('relay')}")
    time.sleep(_SETTLE_S)


def _per_job(spent: Named, jobs: int) -> Named:
    """Microseconds; the workers together."""
    workers = sum(seconds for name, seconds in spent.items() if name.startswith("worker"))
    others = {name: seconds for name, seconds in spent.items() if not name.startswith("worker")}
    return {name: seconds / jobs * 1e6 for name, seconds in {**others, "workers": workers}.items()}


def _row(size: int, found: Sequence[Named]) -> dict[str, Value]:
    return {"jobs waiting": float(size), **{name: _spread(found, name) for name in found[0]}}


def _spread(found: Sequence[Named], name: str) -> Spread:
    return spread([one[name] for one in found])
