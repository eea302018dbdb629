"""kill -9 of the relay that leads: how long the jobs posted around it wait for their start, and how long in quiet."""

import os
import signal
import time

from ops.chaos.recovery.measured import Measured, waits_between
from ops.chaos.recovery.trial import Trial
from ops.chaos.system import System

KILLS, GOAL_S = 10, 2.0
BEFORE_S, AFTER_S = 1.0, 5.0
_QUIET_STRIKES = 3
_JOB_S = 0.05
_TAIL_BYTES = 512 * 1024


def relay_kills(trial: Trial) -> list[Measured]:
    """Whoever leads; the other takes over, and the supervisor brings the first one back."""
    moments = list[float]()
    with trial.load(_JOB_S):
        trial.until_steady()
        quiet_from = time.time()
        time.sleep(trial.strikes(_QUIET_STRIKES) * (BEFORE_S + AFTER_S))
        quiet_to = time.time()
        for number in range(trial.strikes(KILLS)):
            trial.until_steady()
            trial.say(f"relay kill -9: {number + 1} of {trial.strikes(KILLS)}")
            time.sleep(BEFORE_S)
            moments.append(_kill(trial.system))
            time.sleep(AFTER_S)
    waits = trial.waits(quiet_from)
    around = [each for at in moments for each in waits_between(waits, at - BEFORE_S, at + AFTER_S)]
    return [
        Measured("no kill: commit to start of a job", 0, waits_between(waits, quiet_from, quiet_to)),
        Measured("relay kill -9: commit to start of a job around it", len(moments), around, GOAL_S),
    ]


def _kill(system: System) -> float:
    name, moment = leader(system), time.time()
    system.signal(name, signal.SIGKILL)
    return moment


def leader(system: System) -> str:
    """The relay that rang last, by its own word in the log."""
    with (system.folder / "system.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    rung = [line for line in lines if line.startswith("relay-") and "outbox.rung" in line]
    return rung[-1].split()[0] if rung else "relay-0"
