"""The worker process: consumers hear bells, threads run bundles, one thread records, one proves that it lives."""

import sys
from functools import partial

import dramatiq
from redis import Redis
from sqlalchemy import Engine

import workers.handlers  # noqa: F401  # registers them
from domain.database import connect
from domain.jobs.kind import KINDS
from domain.reports.store import ReportStore
from domain.roles import WORKER
from ops.settings import Settings
from workers.announcer import Announcer
from workers.broker import ACTOR, EVERY_QUEUE, DoorbellBroker, connect_redis, ring_relay
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import Resources
from workers.executor import Executor
from workers.holdings import Holdings
from workers.lifecycle import Lifecycle
from workers.recorder import Recorder
from workers.registry import HANDLERS
from workers.vitals import Vitals

#: What is left of the time to stop, once running jobs have had their share: handing back, writing outcomes, leaving.
HAND_BACK_S = 5.0


def run_worker(settings: Settings, queues: list[str]) -> None:
    """A worker process that listens on these queues."""
    if missing := sorted(kind.name for kind in KINDS.values() if kind.queue in queues and kind.name not in HANDLERS):
        sys.exit(f"no handler in workers/handlers does {', '.join(missing)}: its jobs would die here")
    threads = settings.worker_threads
    connect_as = partial(connect, settings.database_url, process="worker", role=WORKER.name, pool_timeout_s=30.0)
    # Two per thread (a handler may read beside its transaction), a health probe's.
    engine = connect_as(pool_size=2 * threads + 1)
    # What proves that the process lives waits for no handler.
    own = connect_as(pool_size=1)
    # One claim per thread, and the recorder's.
    hot = connect_as(pool_size=threads + 1, hot=True)
    redis = connect_redis(settings.redis_url)
    with Lifecycle("worker", settings, engine, redis, queues) as life:
        announcer = Announcer(redis)
        resources = _resources(settings, engine, redis, announcer)
        recorder = Recorder(hot, resources.holdings, resources.ring, resources.announce)
        executor = Executor(resources, recorder, life.process.id, claims=hot)
        vitals = Vitals(own, life.process, executor, threads, life.leave)
        broker = DoorbellBroker(redis, queues)
        consumers = _consume(broker, executor, threads)
        announcer.start()
        recorder.start()
        vitals.start()
        consumers.start()
        life.stopping.wait()
        _stop_worker(settings, broker, consumers, executor, recorder, vitals, resources.holdings)
        announcer.close()


def _resources(settings: Settings, engine: Engine, redis: Redis, announcer: Announcer) -> Resources:
    return Resources(
        engine=engine,
        holdings=Holdings(),
        mailer=Mailer(settings.smtp_url, settings.mail_from),
        http=GuardedHttp(settings.allowed_networks),
        reports=ReportStore(settings.reports_url),
        secret_key=settings.secret_bytes,
        ring=lambda: ring_relay(redis),
        announce=announcer.announce,
    )


def _consume(broker: DoorbellBroker, executor: Executor, threads: int) -> dramatiq.Worker:
    dramatiq.actor(actor_name=ACTOR, queue_name=EVERY_QUEUE, broker=broker)(executor.run_bundle)
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=200)
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
