"""Draining a queue: it is paused, and whoever asked waits until its last job has ended."""

import math
import time

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from domain.jobs.controls import pause, stored_in_flight
from ops.cli.controls import refuse_unknown
from ops.cli.options import operator
from ops.cli.output import ExitCode, Output, complain, leave
from ops.settings import load_settings
from workers.broker import bells_waiting, connect_redis

POLL_S = 0.2
#: The relay hears of a pause within a moment, and a bell is between Redis and its claim for another: only a queue that
#: is quiet for this long has nothing under way.
QUIET_FOR_S = 1.5


def redis_of_settings() -> Redis:
    """The Redis of the settings, asked with little patience."""
    return connect_redis(load_settings().redis_url, timeout_s=1.0)


def drain(out: Output, engine: Engine, name: str, timeout_s: float | None, reason: str | None, by: str) -> ExitCode:
    """The queue is paused; OK when nothing of it is left in flight, TIMEOUT when the time was up before."""
    with engine.begin() as tx:
        refuse_unknown(tx, "queue", name)
        pause(tx, "queue", name, operator(by), reason)
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    shown, quiet_since, is_drained = None, None, False
    while True:
        jobs, bells = left = _in_flight(engine, name)
        if left != shown:
            shown = left
            out.say(f"Queue {name} is paused: {jobs:,} in flight, {bells:,} bells wait.")
        now = time.monotonic()
        quiet_since = None if any(left) else quiet_since or now
        is_drained = quiet_since is not None and now - quiet_since >= QUIET_FOR_S
        if is_drained or now >= deadline:
            break
        time.sleep(min(POLL_S, deadline - now))
    if out.as_json:
        out.document({"name": name, "drained": is_drained, "inFlight": jobs, "bells": bells})
    if not is_drained:
        complain(f"Queue {name} is paused and not yet drained.")
    return ExitCode.OK if is_drained else ExitCode.TIMEOUT


def _in_flight(engine: Engine, name: str) -> tuple[int, int]:
    """Jobs that run, or have a lane and were rung; bells that nobody has taken."""
    try:
        with redis_of_settings() as redis:
            bells = bells_waiting(redis, [name])[name]
    except RedisError as error:
        leave(ExitCode.ERROR, f"Redis does not answer, so what it holds is not known: {type(error).__name__}.")
    with engine.begin() as tx:
        jobs = sum(count for (queue, _, _), count in stored_in_flight(tx).items() if queue == name)
    return jobs, bells
