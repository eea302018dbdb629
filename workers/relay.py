"""The relay: due outbox rows become bundles, bundles become doorbells. The only place that rings.

It rings before it commits, so a crash in between rings twice, never not at all; a row lives until its job is claimed
and rings again after its visibility. Any number of relays may run: they skip each other's rows.
"""

import time
from collections import Counter
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from domain.jobs.kind import queues
from domain.jobs.outbox import RELAY_BELL, DueRow, ring_due, ring_due_in_lanes
from ops.telemetry import OUTBOX_RINGS, RELAY_PASS, log
from workers.broker import bell, bell_list
from workers.bundle_rules import bundles_of

logger = log(__name__)

#: A queue with this many bells waiting gets no more: Redis stays shallow, so pause and cancel act at once.
HIGH_WATER_BELLS = 20
ROWS_PER_PASS = 1_000
#: The floor under the relay bell: rows that became due by time, or whose bell was lost, wait no longer than this.
POLL_S = 0.1
_QUEUES_EVERY_S = 5.0
_TRACED_ROWS = 10


class Relay:
    """One relay; `run_until` turns until told to stop."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        self._engine, self._redis = engine, redis
        self._queues: list[str] = []
        self._queues_read_at = float("-inf")

    def turn(self) -> int:
        """One pass, then a wait for the bell if nothing was due. Outages are waited out here. Answers the rows rung."""
        try:
            rung = self.ring_once()
            if not rung:
                self._redis.blpop([RELAY_BELL], timeout=POLL_S)
        except RedisError as error:
            logger.warning("relay.broker_unreachable", error=type(error).__name__)
            time.sleep(0.25)
            return 0
        except DBAPIError as error:
            logger.warning("relay.database_unreachable", error=type(error.orig).__name__)
            time.sleep(0.25)
            return 0
        return rung

    def ring_once(self) -> int:
        """Whatever is due now, within the room each queue has, is rung. Answers how many rows."""
        started = time.perf_counter()
        open_queues = self._queues_with_room()
        if not open_queues:
            time.sleep(POLL_S / 10)
            return 0
        with self._engine.begin() as tx:
            rows = ring_due(tx, open_queues, ROWS_PER_PASS) + ring_due_in_lanes(tx, open_queues, ROWS_PER_PASS)
            self._push(rows)
        if rows:
            RELAY_PASS.observe(time.perf_counter() - started)
            self._tell(rows)
        return len(rows)

    def _queues_with_room(self) -> list[str]:
        names = self._known_queues()
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(bell_list(name))
            depths = pipe.execute()
        return [name for name, depth in zip(names, depths, strict=True) if depth < HIGH_WATER_BELLS]

    def _known_queues(self) -> list[str]:
        # Queues of kinds that only newer code declares are rung too: its workers may be there already.
        if time.monotonic() - self._queues_read_at > _QUEUES_EVERY_S:
            with self._engine.connect() as connection:
                stored = connection.execute(_STORED_QUEUES).scalars().all()
            self._queues = sorted({*queues(), *stored})
            self._queues_read_at = time.monotonic()
        return self._queues

    def _push(self, rows: list[DueRow]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for bundle in bundles_of(rows):
                pipe.rpush(bell_list(bundle.queue), bell(bundle.queue, bundle.kind, bundle.job_ids))
            pipe.execute()

    def _tell(self, rows: list[DueRow]) -> None:
        for (queue, again), rung in Counter((row.queue, row.rings > 1) for row in rows).items():
            OUTBOX_RINGS.labels(queue, str(again).lower()).inc(rung)
        few = [row.job_id for row in rows] if len(rows) <= _TRACED_ROWS else []
        logger.info("outbox.rung", rows=len(rows), request_ids=self._request_ids(few))

    def _request_ids(self, job_ids: list[UUID]) -> list[str]:
        """Whose requests these jobs serve. Asked only on a quiet system, where a person may be reading along."""
        if not job_ids:
            return []
        with self._engine.connect() as connection:
            bounds = {"ids": job_ids, "lowest": min(job_ids), "highest": max(job_ids)}
            return list(connection.execute(_REQUEST_IDS, bounds).scalars())


# A loose index scan: one probe per queue, however many rows wait.
_STORED_QUEUES = text(
    """
    WITH RECURSIVE names AS (
        SELECT min(queue) AS queue FROM outbox WHERE lane IS NULL
        UNION ALL
        SELECT (SELECT min(queue) FROM outbox WHERE lane IS NULL AND queue > names.queue) FROM names
         WHERE names.queue IS NOT NULL)
    SELECT queue FROM names WHERE queue IS NOT NULL
     UNION SELECT queue FROM lanes
    """
)
_REQUEST_IDS = text(
    """
    SELECT DISTINCT trace_context ->> 'requestId' FROM jobs
     WHERE id = ANY(CAST(:ids AS uuid[])) AND id BETWEEN :lowest AND :highest AND trace_context ? 'requestId'
    """
)
