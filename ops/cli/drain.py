"""Draining a queue: it is paused, and whoever asked waits until its last job has ended."""

import math
import time
from collections.abc import Iterator

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
    """OK when nothing of the queue is left in flight, TIMEOUT when the time was up before.

    It is paused before that, and however the waiting ends, it is said that it is.
    """
    with engine.begin() as tx:
        refuse_unknown(tx, "queue", name)
        pause(tx, "queue", name, operator(by), reason)
    seen = {"name": name, "state": "paused", "drained": False, "inFlight": None, "bells": None}
    try:
        for jobs, bells, is_drained in _looks(engine, name, timeout_s):
            if (jobs, bells) != (seen["inFlight"], seen["bells"]):
                out.say(f"Queue {name} is paused: {jobs:,} in flight, {bells:,} bells wait.")
            seen |= {"drained": is_drained, "inFlight": jobs, "bells": bells}
    finally:
        if out.as_json:
            out.document(seen)
        if not seen["drained"]:
            complain(f"Queue {name} is paused and not yet drained.")
    return ExitCode.OK if seen["drained"] else ExitCode.TIMEOUT


def _looks(engine: Engine, name: str, timeout_s: float | None) -> Iterator[tuple[int, int, bool]]:
    """Jobs and bells that are left, and whether that is all, again and again until it is or the time is up."""
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    quiet_since = None
    while True:
        left = _in_flight(engine, name)
        now = time.monotonic()
        quiet_since = None if any(left) else quiet_since or now
        is_drained = quiet_since is not None and now - quiet_since >= QUIET_FOR_S
        yield *left, is_drained
        if is_drained or now >= deadline:
            return
        time.sleep(min(POLL_S, deadline - now))


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
