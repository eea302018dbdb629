"""kill -9 of a worker at work: seconds to the start of the next attempt of each job that it was running."""

import signal
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, text

from ops.chaos.recovery.measured import Measured
from ops.chaos.recovery.trial import Trial

KILLS, GOAL_P99_S = 100, 10.0
#: Each of three workers lives so long that the supervisor starts it again at once.
EVERY_S = 3.7
_JOB_S = 0.5
_WORKERS = ("worker-0", "worker-1", "worker-2")
_AT_WORK_WITHIN_S = 60.0

_TAKEN = text(
    """
    SELECT id, claim FROM jobs
     WHERE state = 'running'
       AND worker_id = (SELECT id FROM workers WHERE pid = :pid ORDER BY started_at DESC LIMIT 1)
    """
)
# A job that died of its third crash, or whose success was on its way when its worker was killed, starts no more.
_RE_RUNS = text(
    """
    SELECT CAST(extract(epoch FROM min(again.started_at)) AS float8)
      FROM unnest(CAST(:ids AS uuid[]), CAST(:claims AS int[])) AS taken(id, claim)
      JOIN attempts AS again ON again.job_id = taken.id AND again.claim > taken.claim
     GROUP BY taken.id
    """
)


class Kill(msgspec.Struct, frozen=True):
    """When, and what was running there: (job id, claim)."""

    moment: float
    taken: Sequence[Row[Any]]


def worker_kills(trial: Trial) -> list[Measured]:
    """The workers by turns; the supervisor brings them back."""
    killed = list[Kill]()
    with trial.load(_JOB_S):
        for number in range(trial.strikes(KILLS)):
            if number % 10 == 0:
                trial.say(f"worker kill -9: {number} of {trial.strikes(KILLS)}")
            killed.append(_kill(trial, _WORKERS[number % len(_WORKERS)]))
            time.sleep(max(0.0, killed[-1].moment + EVERY_S - time.time()))
    seconds = [each for kill in killed for each in _re_runs(trial, kill)]
    return [Measured("worker kill -9 to the next start of its jobs", len(killed), seconds, GOAL_P99_S, 99.0)]


def _kill(trial: Trial, name: str) -> Kill:
    """It is killed when it has something to do."""
    trial.wait(lambda: bool(_taken(trial, name)), f"{name} had nothing to do", _AT_WORK_WITHIN_S)
    pid, moment = trial.system.pids[name], time.time()
    trial.system.signal(name, signal.SIGKILL)
    return Kill(moment, trial.ask(_TAKEN, pid=pid))


def _taken(trial: Trial, name: str) -> Sequence[Row[Any]]:
    return trial.ask(_TAKEN, pid=trial.system.pids[name])


def _re_runs(trial: Trial, kill: Kill) -> list[float]:
    ids, claims = [row.id for row in kill.taken], [row.claim for row in kill.taken]
    return [again - kill.moment for (again,) in trial.ask(_RE_RUNS, ids=ids, claims=claims)]
