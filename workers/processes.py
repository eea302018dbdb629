"""The processes that keep the fleet going: relay, rescuer and scheduler turn until told to stop, and stop cleanly."""

import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.database import connect
from domain.fleet.workers import beat
from domain.roles import RELAY, RESCUER
from ops.settings import Settings
from ops.telemetry import log
from workers.broker import connect_redis
from workers.lifecycle import Lifecycle
from workers.relay import Relay
from workers.rescuer import PASS_EVERY_S, Rescuer
from workers.scheduler import TURN_EVERY_S, Scheduler

logger = log(__name__)

BEAT_EVERY_S = 2.0


def run_relay(settings: Settings) -> None:
    """The relay process."""
    # A relay that is stopped while it holds rows must free them soon: the others skip what is locked.
    engine = connect(
        settings.database_url,
        process="relay",
        role=RELAY.name,
        pool_size=3,
        idle_in_transaction_ms=2_000,
        hot=True,
    )
    relay = Relay(engine, connect_redis(settings.redis_url))
    _turn_until_stopped("relay", settings, engine, relay.turn, pause_s=0.0)
    relay.close()


def run_rescuer(settings: Settings) -> None:
    """The rescuer process."""
    engine = connect(settings.database_url, process="rescuer", role=RESCUER.name, pool_size=2)
    _turn_until_stopped("rescuer", settings, engine, Rescuer(engine).turn, pause_s=PASS_EVERY_S)


def run_scheduler(settings: Settings) -> None:
    """The scheduler process."""
    # As the owner of the tables: it makes and drops partitions.
    engine = connect(settings.database_url, process="scheduler", pool_size=3)
    scheduler = Scheduler(engine, settings.job_retention_days)
    _turn_until_stopped("scheduler", settings, engine, scheduler.turn, pause_s=TURN_EVERY_S)


def _turn_until_stopped(
    role: str, settings: Settings, engine: Engine, turn: Callable[[], object], pause_s: float
) -> None:
    with Lifecycle(role, settings, engine, connect_redis(settings.redis_url), []) as life:
        beaten_at = float("-inf")
        while not life.stopping.is_set():
            if time.monotonic() - beaten_at >= BEAT_EVERY_S:
                beaten_at = time.monotonic()
                _beat(engine, life)
            turn()
            life.stopping.wait(pause_s)


def _beat(engine: Engine, life: Lifecycle) -> None:
    try:
        with engine.begin() as tx:
            beat(tx, life.process)
    except DBAPIError as error:
        logger.warning("process.not_beaten", error=type(error.orig).__name__)
