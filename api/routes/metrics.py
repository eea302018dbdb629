"""Metrics for Prometheus: this process's own, and what only PostgreSQL knows: depths of queues, figures of business."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from sqlalchemy import Connection, Engine, QueuePool

from domain.business_figures import active_users, least_stock
from domain.jobs.kind import queues
from domain.jobs.queries import queue_depths
from domain.lanes.lanes import count_lanes
from ops.telemetry import ACTIVE_USERS, DATABASE_CONNECTIONS, LANES, OUTBOX_OLDEST, PRODUCT_STOCK, QUEUE_DEPTH, log

logger = log(__name__)

STATES = ("due", "later", "held", "running", "dead")
#: Depths cost little and the fleet is scaled on them; the others read whole tables.
_DEPTHS_EVERY_S, _TABLES_EVERY_S = 1.0, 15.0
_MOST_PRODUCTS = 1_000


class Gauges:
    """What is read when somebody scrapes, and not more often than it changes or can be afforded."""

    def __init__(self, engine: Engine, pools: Sequence[Engine]) -> None:
        self._engine, self._pools = engine, pools
        self._read_at: dict[Callable[[Connection], None], float] = {}

    def refresh(self) -> None:
        pools = (engine.pool for engine in self._pools)
        DATABASE_CONNECTIONS.set(sum(p.checkedin() + p.checkedout() for p in pools if isinstance(p, QueuePool)))
        self._refresh(_read_depths, _DEPTHS_EVERY_S)
        self._refresh(_read_lanes, _TABLES_EVERY_S)
        self._refresh(_read_business, _TABLES_EVERY_S)

    def _refresh(self, read: Callable[[Connection], None], every_s: float) -> None:
        if time.monotonic() - self._read_at.get(read, float("-inf")) < every_s:
            return
        self._read_at[read] = time.monotonic()
        try:
            with self._engine.connect() as connection:
                read(connection)
        except Exception as error:  # noqa: BLE001  # what cannot be read, or decoded, stays as it was
            logger.warning("metrics.unknown", what=read.__name__.removeprefix("_read_"), error=type(error).__name__)


def _read_depths(connection: Connection) -> None:
    rows = {row.queue: row for row in queue_depths(connection)}
    found = {queue: rows.get(queue) for queue in {*queues(), *rows}}
    _tell(OUTBOX_OLDEST, {(queue,): row.oldest_seconds if row else 0 for queue, row in found.items()})
    depths = {(queue, state): getattr(row, state) if row else 0 for queue, row in found.items() for state in STATES}
    _tell(QUEUE_DEPTH, depths)


def _read_lanes(connection: Connection) -> None:
    _tell(LANES, count_lanes(connection))


def _read_business(connection: Connection) -> None:
    users, free = active_users(connection), least_stock(connection, _MOST_PRODUCTS)
    _tell(ACTIVE_USERS, {(str(tenant_id),): count for tenant_id, count in users.items()})
    _tell(PRODUCT_STOCK, {(name,): units for name, units in free.items()})


def _tell(gauge: Gauge, figures: Mapping[Any, float]) -> None:
    """These, by their labels. What is gone shall not stay as it was, and what is not is there at every moment."""
    told = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    for labels, figure in figures.items():
        gauge.labels(*labels).set(figure)
    for gone in told - figures.keys():
        gauge.remove(*gone)


@get("/metrics", include_in_schema=False, sync_to_thread=True)
def metrics(gauges: NamedDependency[Gauges]) -> Response[bytes]:
    """The exposition format of Prometheus. Scale the fleet on `longshore_queue_depth`."""
    gauges.refresh()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
