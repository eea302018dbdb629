"""Valkey emptied, or killed and back empty, with bells waiting: seconds until every job due then has started."""

import time
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import text

from domain.lanes.lanes import open_lane
from ops.chaos.kinds import QUEUE
from ops.chaos.recovery.measured import Measured
from ops.chaos.recovery.trial import Trial
from ops.chaos.system import QUEUES
from workers.broker import bell_list

FLUSHES, KILLS, GOAL_S = 14, 8, 60.0
#: Bursts that fill the workers and the lists behind them, and are worked off within a second: what has no lane rings
#: again when the relay finds its list empty, what has one when its visibility is over.
_WITHOUT_LANE, _IN_LANE, _JOB_S = 120, 60, 0.03
_LANE = "recovery"
_BURST_S = 2.0
_OUTAGE_S = 1.0
_BELLS_WITHIN_S, _CLAIMED_WITHIN_S = 20.0, 90.0
_LISTS = [bell_list(queue) for queue in QUEUES.split(",")]

# A row in a lane is due again later once it was rung.
_DUE = text("SELECT job_id FROM outbox WHERE due_at <= to_timestamp(:moment) OR rings > 0")
_UNCLAIMED = text(
    """
    SELECT count(*) FROM jobs
     WHERE id = ANY(CAST(:ids AS uuid[])) AND (started_at IS NULL OR started_at < to_timestamp(:moment))
       AND state IN ('scheduled', 'queued', 'retrying')
    """
)
_STARTED = text(
    """
    SELECT CAST(extract(epoch FROM min(started_at)) AS float8) FROM attempts
     WHERE job_id = ANY(CAST(:ids AS uuid[])) AND started_at >= to_timestamp(:moment) GROUP BY job_id
    """
)


class Emptied(msgspec.Struct, frozen=True):
    """Seconds count from `moment`. The bells that were lost, and the jobs that were due when Valkey was emptied."""

    moment: float
    bells: int
    due: list[UUID]


def flushes(trial: Trial) -> list[Measured]:
    """FLUSHALL."""
    return [_measure(trial, "FLUSHALL to every due job started", FLUSHES, _flush)]


def valkey_kills(trial: Trial) -> list[Measured]:
    """kill -9, a second without, and an empty one in its place."""
    return [_measure(trial, "Valkey kill -9 and back, to every due job started", KILLS, _kill)]


def _measure(trial: Trial, what: str, whole: int, empty: Callable[[Trial], Emptied]) -> Measured:
    """The longest wait of each strike."""
    struck = list[Emptied]()
    with trial.system.engine.begin() as tx:
        open_lane(tx, _LANE, QUEUE)
    with trial.load(_JOB_S):
        for number in range(trial.strikes(whole)):
            trial.until_steady()
            trial.wait(lambda: _burst(trial), "no bell waited", _BELLS_WITHIN_S)
            struck.append(one := empty(trial))
            lost = f"{one.bells} bells lost, {len(one.due)} jobs due"
            trial.say(f"{what}: {number + 1} of {trial.strikes(whole)}, {lost}")
            trial.wait(lambda one=one: not _unclaimed(trial, one), "not every job was claimed", _CLAIMED_WITHIN_S)  # type: ignore[misc]
    return Measured(what, len(struck), [max(delays) for one in struck if (delays := _delays(trial, one))], GOAL_S)


def _burst(trial: Trial) -> bool:
    """Whether bells wait after it. Idle workers may have taken them all between two looks: then comes another."""
    trial.post_jobs(_WITHOUT_LANE, _JOB_S)
    trial.post_jobs(_IN_LANE, _JOB_S, _LANE)
    over = time.monotonic() + _BURST_S
    while not (waiting := _bells(trial)) and time.monotonic() < over:
        time.sleep(0.005)
    return bool(waiting)


def _flush(trial: Trial) -> Emptied:
    with trial.system.redis.pipeline() as pipe:  # at once: what it lost is known
        for name in _LISTS:
            pipe.llen(name)
        pipe.flushall()
        *bells, _ = pipe.execute()
    moment = time.time()
    return Emptied(moment, sum(bells), _due(trial, moment))


def _kill(trial: Trial) -> Emptied:
    bells, server = _bells(trial), trial.system.stack.valkey
    server.kill()
    due = _due(trial, time.time())
    time.sleep(_OUTAGE_S)
    server.start()
    return Emptied(time.time(), bells, due)


def _bells(trial: Trial) -> int:
    return sum(trial.system.redis.llen(name) for name in _LISTS)


def _due(trial: Trial, moment: float) -> list[UUID]:
    return [row.job_id for row in trial.ask(_DUE, moment=moment)]


def _unclaimed(trial: Trial, emptied: Emptied) -> int:
    count: int = trial.ask(_UNCLAIMED, ids=emptied.due, moment=emptied.moment)[0][0]
    return count


def _delays(trial: Trial, emptied: Emptied) -> Sequence[float]:
    return [at - emptied.moment for (at,) in trial.ask(_STARTED, ids=emptied.due, moment=emptied.moment)]
