"""Metrics for Prometheus: this process's own, and what only PostgreSQL knows: depths of queues, figures of business."""

import time
from collections.abc import Callable, Sequence

from litestar import Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection, Engine, QueuePool
from sqlalchemy.exc import SQLAlchemyError

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
        except SQLAlchemyError as error:
            logger.warning("metrics.unknown", what=read.__name__.removeprefix("_read_"), error=type(error).__name__)


def _read_depths(connection: Connection) -> None:
    rows = {row.queue: row for row in queue_depths(connection)}
    for gauge in (OUTBOX_OLDEST, QUEUE_DEPTH):
        gauge.clear()  # a queue that is gone shall not stay as it was
    for queue in {*queues(), *rows}:
        row = rows.get(queue)
        OUTBOX_OLDEST.labels(queue).set(row.oldest_seconds if row else 0)
        for state in STATES:
            QUEUE_DEPTH.labels(queue, state).set(getattr(row, state) if row else 0)


def _read_lanes(connection: Connection) -> None:
    lanes = count_lanes(connection)
    LANES.clear()  # a state that no lane is in any more
    for (queue, state), count in lanes.items():
        LANES.labels(queue, state).set(count)


def _read_business(connection: Connection) -> None:
    users, free = active_users(connection), least_stock(connection, _MOST_PRODUCTS)
    for gauge in (ACTIVE_USERS, PRODUCT_STOCK):
        gauge.clear()  # who is not among them any more shall not stay as he was
    for tenant_id, count in users.items():
        ACTIVE_USERS.labels(str(tenant_id)).set(count)
    for name, units in free.items():
        PRODUCT_STOCK.labels(name).set(units)


@get("/metrics", include_in_schema=False, sync_to_thread=True)
def metrics(gauges: NamedDependency[Gauges]) -> Response[bytes]:
    """The exposition format of Prometheus. Scale the fleet on `longshore_queue_depth`."""
    gauges.refresh()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
