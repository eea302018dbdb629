"""The relay: due outbox rows become bundles, bundles become doorbells. The only place that rings.

Just in time: Redis holds a fraction of a second's work of each kind, so that pause, priority, fairness and caps act at
once. A row lives until its job is claimed; what was rung and not claimed rings again. Any number of relays may run: one
of them rings, the others take over within moments when it dies or freezes.
"""

import time
from collections.abc import Sequence
from typing import cast
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.fleet.leadership import Leadership
from domain.jobs.controls import Control, read_controls
from domain.jobs.queries import request_ids_of
from domain.jobs.relay_bell import RELAY_BELL, Hint, hint_in
from ops.telemetry import RELAY_PASS, log
from workers.flow_ringer import FlowRinger
from workers.lane_ringer import LaneRinger
from workers.limits import Bucket, Limits

logger = log(__name__)

#: The floor under the relay bell: rows that became due by time, or whose bell was lost, wait no longer than this.
POLL_S = 0.1
#: Between two passes while there is more to ring than room; a window that has just grown is filled at once.
PAUSE_S = 0.03
SHORT_PAUSE_S = 0.002
#: Between the jobs of a hint and the pass that follows: the workers' claims go first.
AFTER_HINT_S = 0.003
_CONTROLS_EVERY_S = 0.25
#: Whoever is told what is due shall not wait for the controls to be read; but hints may come without end.
_CONTROLS_AT_LATEST_S = 1.0
_TRACED_ROWS = 10


class Relay:
    """One relay; `turn` is called again and again until the process stops."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        self._redis = redis
        self._leadership = Leadership(engine.execution_options(isolation_level="AUTOCOMMIT"), "relay")
        self._lanes = LaneRinger(engine, redis)
        self._flows: FlowRinger | None = None
        self._controls: list[Control] = []
        self._controls_read_at = float("-inf")
        self._buckets: dict[str, Bucket] = {}
        self._hint: Hint | None = None
        self._may_wait = False
        self._untold: list[str] = []
        self._passed_at = float("-inf")

    def turn(self) -> int:
        """One pass, then a wait for the bell if nothing is left to ring. Outages are waited out here.

        Answers the rows rung.
        """
        try:
            rung = self.ring_once()
            if self._flows is None:
                time.sleep(POLL_S)
            elif self._flows.is_behind:
                time.sleep(SHORT_PAUSE_S if self._flows.is_growing else PAUSE_S)
            elif self._may_wait:
                time.sleep(AFTER_HINT_S)
            elif not rung:
                self._listen()
        except RedisError as error:
            logger.warning("relay.broker_unreachable", error=type(error).__name__)
            self._flows = None  # nobody knows which bells arrived
            time.sleep(0.25)
            return 0
        except DBAPIError as error:
            logger.warning("relay.database_unreachable", error=type(error.orig).__name__)
            self.close()
            time.sleep(0.25)
            return 0
        return rung

    def _listen(self) -> None:
        bell = self._redis.blpop([RELAY_BELL], timeout=POLL_S)
        self._hint = hint_in(cast("list[bytes]", bell)[1]) if bell else None

    def close(self) -> None:
        """Another relay may lead."""
        self._leadership.give_up()
        self._flows = None

    def ring_once(self) -> int:
        """If this relay leads: whatever is due now, within the room there is, is rung. Answers how many rows."""
        if not self._leadership.is_held():
            return 0
        if self._flows is None:
            self._flows = FlowRinger(self._leadership.connection, self._redis)
        hint, self._hint = self._hint, None
        self._read_controls(_CONTROLS_EVERY_S if hint is None else _CONTROLS_AT_LATEST_S)
        limits = Limits(self._controls, self._buckets, time.monotonic())
        hinted = self._flows.ring_hinted(hint, limits) if hint else []
        self._untold += hinted
        # The hinted jobs go first; the whole pass, which finds whatever else is due, follows within moments.
        self._may_wait = bool(hinted) and time.monotonic() - self._passed_at < POLL_S
        return len(hinted) + (0 if self._may_wait else self._pass(self._flows, limits))

    def _pass(self, flows: FlowRinger, limits: Limits) -> int:
        started = self._passed_at = time.monotonic()
        rung = flows.ring(limits) + self._lanes.ring(self._leadership.connection, limits)
        told, self._untold = self._untold + rung, []
        if told:
            RELAY_PASS.observe(time.monotonic() - started)
            logger.info("outbox.rung", rows=len(told), request_ids=self._request_ids(told))
        return len(rung)

    def _read_controls(self, every_s: float) -> None:
        now = time.monotonic()
        if now - self._controls_read_at > every_s:
            self._controls, self._controls_read_at = read_controls(self._leadership.connection), now

    def _request_ids(self, rung: Sequence[str]) -> list[str]:
        """Whose requests these jobs serve. Asked only on a quiet system, where a person may be reading along."""
        if len(rung) > _TRACED_ROWS:
            return []
        return request_ids_of(self._leadership.connection, [UUID(job_id) for job_id in rung])
