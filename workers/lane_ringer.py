"""Rings the rows with a lane: least recently served lanes first, each within its room."""

import time
from collections import Counter
from collections.abc import Sequence

from redis import Redis
from sqlalchemy import Connection, Engine, text

from domain.jobs.due import LaneRow, ring_due_in_lanes
from workers.broker import HIGH_WATER_BELLS, bell, bell_list, bells_waiting
from workers.bundle_rules import bundles_of, most_in_bundle
from workers.limits import Limits
from workers.tally import count_rings

_QUEUES_EVERY_S = 5.0
_QUEUES = text("SELECT DISTINCT queue FROM lanes")


class LaneRinger:
    """Keeps no memory of rings: a lane counts what is in flight, and a rung row is due again later."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        self._engine, self._redis = engine, redis
        self._queues: list[str] = []
        self._queues_read_at = float("-inf")

    def ring(self, connection: Connection, limits: Limits) -> list[str]:
        """One pass over the open lanes. Answers the ids it rang. Pushes before it commits: see `ring_due_in_lanes`."""
        depths = bells_waiting(self._redis, self._known_queues(connection))
        full = [queue for queue, depth in depths.items() if depth >= HIGH_WATER_BELLS]
        if len(full) == len(depths):
            return []
        with self._engine.begin() as tx:
            rows = ring_due_in_lanes(tx, limits.closed(full), limits.allow)
            self._push(rows)
        for name, rung in Counter(row.kind for row in rows).items():
            limits.note_started(name, rung)
        for (queue, again), rung in Counter((row.queue, row.rings > 1) for row in rows).items():
            count_rings(queue, 0 if again else rung, rung if again else 0)
        return [str(row.job_id) for row in rows]

    def _known_queues(self, connection: Connection) -> list[str]:
        if time.monotonic() - self._queues_read_at > _QUEUES_EVERY_S:
            self._queues = list(connection.execute(_QUEUES).scalars())
            self._queues_read_at = time.monotonic()
        return self._queues

    def _push(self, rows: Sequence[LaneRow]) -> None:
        kinds: dict[tuple[str, str], list[LaneRow]] = {}
        for row in rows:
            kinds.setdefault((row.queue, row.kind), []).append(row)
        with self._redis.pipeline(transaction=False) as pipe:
            for (queue, kind), mates in kinds.items():
                together = [str(row.job_id) for row in mates if not row.alone]
                alone = [str(row.job_id) for row in mates if row.alone]
                for bundle in bundles_of(together, alone, most_in_bundle(kind)):
                    pipe.rpush(bell_list(queue), bell(queue, kind, bundle))
            pipe.execute()
