"""Metrics for Prometheus: this process's own, and the depth of the queues, which only PostgreSQL knows."""

import time

from litestar import Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from domain.jobs.kind import queues
from domain.jobs.queries import queue_depths
from ops.telemetry import OUTBOX_OLDEST, QUEUE_DEPTH, log

logger = log(__name__)

STATES = ("due", "later", "held", "running", "dead")


class Depths:
    """Reads the depths at most once a second, however many scrape."""

    def __init__(self) -> None:
        self._read_at = float("-inf")

    def refresh(self, engine: Engine) -> None:
        if time.monotonic() - self._read_at < 1.0:
            return
        self._read_at = time.monotonic()
        try:
            with engine.connect() as connection:
                rows = {row.queue: row for row in queue_depths(connection)}
        except SQLAlchemyError as error:
            logger.warning("metrics.depth_unknown", error=type(error).__name__)
            return
        for queue in {*queues(), *rows}:
            row = rows.get(queue)
            OUTBOX_OLDEST.labels(queue).set(row.oldest_seconds if row else 0)
            for state in STATES:
                QUEUE_DEPTH.labels(queue, state).set(getattr(row, state) if row else 0)


@get("/metrics", include_in_schema=False, sync_to_thread=True)
def metrics(engine: NamedDependency[Engine], depths: NamedDependency[Depths]) -> Response[bytes]:
    """The exposition format of Prometheus. Scale the fleet on `longshore_queue_depth`."""
    depths.refresh(engine)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
