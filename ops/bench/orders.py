"""orders: whole orders per second, from the first POST to the last recorded outcome, and what the processes weigh.

An order here is accepted over HTTP, reserved, mailed to a sink and delivered as a webhook to a local receiver: three
jobs, each recorded. The fleet is that of `longshore up`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy import text

from ops.bench.cost import memory_mib
from ops.bench.figure import Figure, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.outside import HOST
from ops.bench.shop import Shop
from ops.bench.spread import spread
from ops.dev.children import LOOPS, WORKERS
from ops.dev.ports import Ports

ORDERS, QUICK_ORDERS = 3_000, 500
SKUS = 50
JOBS_PER_ORDER = 3
_SLOWEST_PER_S = 10
_FIRST_PORT = 18_200
_LOOK_EVERY_S = 1.0

_DONE = "SELECT count(*) FROM jobs WHERE state = 'succeeded'"
_DEAD = "SELECT count(*) FROM jobs WHERE state IN ('dead', 'cancelled')"
_PER_S = text(
    """
    SELECT kind, count(*) / extract(epoch FROM max(finished_at) - (SELECT min(created_at) FROM orders)) AS per_s
      FROM jobs GROUP BY kind ORDER BY kind
    """
)
_MICROSECONDS = """
    SELECT CAST(extract(epoch FROM (SELECT max(finished_at) FROM jobs) - (SELECT min(created_at) FROM orders)) * 1e6
                AS bigint)
"""

#: Values by the name of a process, or of a kind of job.
Named = dict[str, float]


class Whole(msgspec.Struct, frozen=True):
    """One repeat: orders per second from the first POST to the last outcome; jobs of each kind, likewise; MiB."""

    per_s: float
    posted_per_s: float
    jobs_per_s: Named
    rest: Named
    most: Named


def orders(run: Run) -> Figure:
    """Medians of the repeats; the memory of the last one."""
    found = list[Whole]()
    for repeat in range(1, run.repeats + 1):
        run.say(f"orders {repeat}/{run.repeats}")
        with fleet() as running:
            found.append(_whole_orders(running, QUICK_ORDERS if run.quick else ORDERS))
    last = found[-1]
    rows: list[dict[str, Value]] = [
        {"what": "whole orders per second", "value": spread([one.per_s for one in found])},
        {"what": "202s per second meanwhile", "value": spread([one.posted_per_s for one in found])},
    ]
    rows += [
        {"what": f"{kind} per second", "value": spread([one.jobs_per_s[kind] for one in found])}
        for kind in last.jobs_per_s
    ]
    rows += [
        {"what": f"MiB of {name}", "at rest": mib, "under load": last.most[name]} for name, mib in last.rest.items()
    ]
    notes = [
        "An order: HTTP 202, stock reserved, one mail, one webhook; 3 jobs recorded. Rates count from the first order.",
        "Memory is PSS: what processes share is divided among them.",
    ]
    return Figure("orders", "Whole orders per second, and memory", rows, [], notes)


def _whole_orders(running: Fleet, count: int) -> Whole:
    shop = Shop(running)
    _start_everything(running, shop)
    skus = shop.products(SKUS)
    rest = memory_mib(running.pids)
    with _watched(running, rest) as most:
        answered = shop.post(skus, seconds=30 + count / _SLOWEST_PER_S, warm_up_s=0.0, most=count)
        jobs = answered.posted * JOBS_PER_ORDER
        limit_s = 30 + count / _SLOWEST_PER_S
        running.wait(lambda: running.ask(_DONE) >= jobs, f"not all of {jobs} jobs were done", limit_s, 0.1)
    if dead := running.ask(_DEAD):
        raise BenchFailed(f"{dead} jobs died")
    with running.engine.connect() as connection:
        by_kind = {kind: float(per_s) for kind, per_s in connection.execute(_PER_S)}
    return Whole(
        answered.posted / (running.ask(_MICROSECONDS) / 1e6), answered.accepted_per_s, by_kind, rest, dict(most)
    )


def _start_everything(running: Fleet, shop: Shop) -> None:
    ports = Ports(HOST)
    smtp, http = ports.first_free(_FIRST_PORT), ports.first_free(_FIRST_PORT + 50)
    running.environ |= {
        "SMTP_URL": f"smtp://{HOST}:{smtp}",
        "WEBHOOK_ALLOW_NETWORKS": f"{HOST}/32",
        "WEBHOOK_ALLOW_HTTP": "true",
    }
    running.start("outside", str(smtp), str(http), module="ops.bench.outside")
    for name in LOOPS:
        running.start(name, name)
    for name, queues in WORKERS.items():
        running.start(name, "worker", "--queues", ",".join(queues))
    shop.open()
    running.wait_ready(*LOOPS, *WORKERS)
    endpoint = {"url": f"http://{HOST}:{http}/hooks", "eventTypes": ["order.confirmed"]}
    shop.caller.send("POST", "/api/v1/webhook-endpoints", endpoint)


@contextmanager
def _watched(running: Fleet, rest: Named) -> Iterator[Named]:
    """The most memory that each process was seen to use meanwhile."""
    most, done = dict(rest), threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_EVERY_S):
            for name, mib in memory_mib(running.pids).items():
                most[name] = max(most.get(name, 0.0), mib)

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
