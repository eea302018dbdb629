"""kill -9 of PostgreSQL: seconds from its accepting connections to a 202 of every API, and to the first job done."""

import threading
import time

import msgspec
from sqlalchemy import text

from ops.chaos.recovery.measured import Measured
from ops.chaos.recovery.trial import Trial

GOAL_S = 30.0
#: How often in a whole trial and at least, and seconds away: the latter so many that whoever waits longer each time has
#: come to wait long.
SHORT, LONG = (8, 1, 0.0), (2, 0, 10.0)
_JOB_S = 0.05
_BACK_WITHIN_S = 90.0

_DONE = text(
    """
    SELECT CAST(extract(epoch FROM min(finished_at)) AS float8) FROM attempts
     WHERE outcome = 'succeeded' AND started_at >= to_timestamp(:moment)
    """
)


class Back(msgspec.Struct, frozen=True):
    """Seconds since the server accepted connections: to a 202 of each API, to the end of a job started since."""

    accepted: list[float]
    done: float


def postgresql_kills(trial: Trial) -> list[Measured]:
    measured = list[Measured]()
    with trial.load(_JOB_S):
        for whole, least, outage_s in (SHORT, LONG):
            name = f"PostgreSQL kill -9, {outage_s:g} s away" if outage_s else "PostgreSQL kill -9"
            strikes = [_strike(trial, name, outage_s) for _ in range(trial.strikes(whole, least))]
            if not strikes:
                continue
            accepted = [each for one in strikes for each in one.accepted]
            measured += [
                Measured(f"{name}, up to a 202 of every API", len(strikes), accepted, GOAL_S),
                Measured(f"{name}, up to the first job done", len(strikes), [one.done for one in strikes], GOAL_S),
            ]
    return measured


def _strike(trial: Trial, name: str, outage_s: float) -> Back:
    trial.until_steady()
    trial.say(name)
    server = trial.system.stack.postgresql
    server.kill()
    time.sleep(outage_s)
    server.start()
    return _watch(trial, time.time())


def _watch(trial: Trial, up: float) -> Back:
    accepted = list[float]()

    def post(port: int) -> None:
        posted = trial.order()
        trial.client([port]).post(posted, _BACK_WITHIN_S)
        if posted.outcome == "accepted":
            accepted.append(time.time() - up)

    callers = [threading.Thread(target=post, args=(port,), daemon=True) for port in trial.system.ports.values()]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    done = list[float]()

    def is_done() -> bool:
        done[:] = [row[0] - up for row in trial.ask(_DONE, moment=up) if row[0] is not None]
        return bool(done)

    trial.wait(is_done, "no job was done", _BACK_WITHIN_S)
    return Back(accepted, done[0])
