"""What the processes of the fleet are made of: each builds its parts, turns until told to stop, and stops cleanly."""

import time
from collections.abc import Callable

import dramatiq
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.database import connect
from domain.fleet.workers import beat
from domain.reports.store import ReportStore
from ops.settings import Settings
from ops.telemetry import log
from workers.broker import ACTOR, DoorbellBroker, connect_redis
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import Resources
from workers.executor import Executor
from workers.holdings import Holdings
from workers.lifecycle import Lifecycle
from workers.recorder import Recorder
from workers.relay import Relay
from workers.rescuer import PASS_EVERY_S, Rescuer
from workers.scheduler import Scheduler
from workers.vitals import Vitals

logger = log(__name__)

BEAT_EVERY_S = 2.0
#: What is left of the time to stop, once running jobs have had their share: handing back, writing outcomes, leaving.
HAND_BACK_S = 5.0


def run_relay(settings: Settings) -> None:
    """The relay process."""
    # A relay that is stopped while it holds rows must free them soon: the others skip what is locked.
    engine = connect(settings.database_url, process="relay", pool_size=2, idle_in_transaction_ms=2_000)
    relay = Relay(engine, connect_redis(settings.redis_url))
    _turn_until_stopped("relay", settings, engine, relay.turn, pause_s=0.0)


def run_rescuer(settings: Settings) -> None:
    """The rescuer process."""
    engine = connect(settings.database_url, process="rescuer", pool_size=2)
    _turn_until_stopped("rescuer", settings, engine, Rescuer(engine).turn, pause_s=PASS_EVERY_S)


def run_scheduler(settings: Settings) -> None:
    """The scheduler process."""
    engine = connect(settings.database_url, process="scheduler", pool_size=2)
    _turn_until_stopped("scheduler", settings, engine, Scheduler(engine).turn, pause_s=1.0)


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


def run_worker(settings: Settings, queues: list[str]) -> None:
    """A worker process that listens on these queues."""
    import workers.handlers  # noqa: F401, PLC0415  # registers them; here, so that other processes need not load them

    threads = settings.worker_threads
    # Two per thread (a handler may read beside its transaction), the recorder's, the vitals', a health probe's.
    engine = connect(settings.database_url, process="worker", pool_size=2 * threads + 3, pool_timeout_s=30.0)
    redis = connect_redis(settings.redis_url)
    with Lifecycle("worker", settings, engine, redis, queues) as life:
        resources = _resources(settings, engine)
        recorder = Recorder(engine, resources.holdings)
        executor = Executor(resources, recorder, life.process.id)
        vitals = Vitals(engine, life.process, resources.holdings, executor)
        broker = DoorbellBroker(redis)
        consumers = _consume(broker, executor, queues, threads)
        recorder.start()
        vitals.start()
        consumers.start()
        life.stopping.wait()
        _stop_worker(settings, broker, consumers, executor, recorder, vitals, resources.holdings)


def _resources(settings: Settings, engine: Engine) -> Resources:
    return Resources(
        engine=engine,
        holdings=Holdings(),
        mailer=Mailer(settings.smtp_url, settings.mail_from),
        http=GuardedHttp(settings.allowed_networks),
        reports=ReportStore(settings.reports_url),
        secret_key=settings.secret_bytes,
    )


def _consume(broker: DoorbellBroker, executor: Executor, queues: list[str], threads: int) -> dramatiq.Worker:
    for queue in queues:
        broker.declare_queue(queue)
    dramatiq.actor(actor_name=ACTOR, queue_name=queues[0], broker=broker)(executor.run_bundle)
    worker = dramatiq.Worker(broker, queues=set(queues), worker_threads=threads, worker_timeout=200)
    worker.queue_prefetch = threads  # a bell that waits here could be running elsewhere
    return worker


def _stop_worker(
    settings: Settings,
    broker: DoorbellBroker,
    consumers: dramatiq.Worker,
    executor: Executor,
    recorder: Recorder,
    vitals: Vitals,
    holdings: Holdings,
) -> None:
    """Stop taking, let running jobs end, hand back what does not, write every outcome."""
    broker.close()
    executor.stopping = True
    running_s = max(1.0, settings.shutdown_timeout_seconds - HAND_BACK_S)
    consumers.stop(timeout=int(running_s * 1000))
    executor.hand_back(holdings.undecided())
    recorder.close(HAND_BACK_S)
    vitals.stop()
    executor.close()
