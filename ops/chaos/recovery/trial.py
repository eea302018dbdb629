"""One system under a steady load, for parts that strike it and measure. Times are of the host's clock."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError

from domain.jobs.outbox import enqueue, new_job
from ops.chaos.clients import Client
from ops.chaos.history import History, Posted
from ops.chaos.kinds import Honest
from ops.chaos.load import Load
from ops.chaos.recovery.measured import Wait
from ops.chaos.rest import is_quiet
from ops.chaos.strikes import Say
from ops.chaos.system import System
from ops.chaos.tenants import settle_in
from workers.broker import ring_relay

#: What `--minutes` is compared with: so long takes a whole trial.
WHOLE_MINUTES = 8.0
#: Moderate: nothing gathers, so that what is measured is recovery and not a backlog.
CALLERS, PAUSE_S, JOBS_PER_S = 2, 0.4, 12.0
_STEADY_WITHIN_S, _QUIET_WITHIN_S = 60.0, 90.0

_IS_BEHIND = text("SELECT EXISTS (SELECT FROM outbox WHERE due_at < clock_timestamp() - interval '1 second')")
# What was posted by a commit of its own: a follow-up's row is older than its commit.
_WAITS = text(
    """
    SELECT CAST(extract(epoch FROM jobs.created_at) AS float8) AS posted,
           CAST(extract(epoch FROM first.started_at) AS float8) AS started
      FROM jobs JOIN attempts AS first ON first.job_id = jobs.id AND first.claim = 1
     WHERE jobs.kind IN ('chaos.honest', 'inventory.reserve') AND jobs.created_at >= to_timestamp(:since)
    """
)


class Trial:
    """`scale` is the share of the strikes of a whole trial that shall be made."""

    def __init__(self, system: System, scale: float, say: Say) -> None:
        self.system, self.say = system, say
        self._scale = scale
        self._history = History()
        client = self.client(list(system.ports.values()))
        self._tenants, _ = settle_in(system, client)

    def strikes(self, whole: int, least: int = 1) -> int:
        """How many to make, where a whole trial has so many."""
        return max(least, round(whole * self._scale))

    def client(self, ports: Sequence[int]) -> Client:
        return Client(ports, random.Random(0), self._history)  # noqa: S311  # pauses, not secrets

    def order(self) -> Posted:
        """One that somebody is about to post."""
        tenant = self._tenants[0]
        return Posted(tenant, {tenant.plenty[0]: 1})

    def post_jobs(self, count: int, seconds: float, lane: str | None = None) -> None:
        """So many jobs that work for so long, in one transaction."""
        with self.system.engine.begin() as tx:
            tenant_id = UUID(self._tenants[0].id)
            enqueue(tx, [new_job(Honest(seconds), tenant_id=tenant_id, lane=lane) for _ in range(count)])
        ring_relay(self.system.redis)

    @contextmanager
    def load(self, job_s: float) -> Iterator[None]:
        """Callers post orders, and jobs come that work for so long each. Then all is quiet. Raises ChaosFailed."""
        stopping = threading.Event()

        def feed() -> None:
            while not stopping.wait(1 / JOBS_PER_S):
                with suppress(SQLAlchemyError):
                    self.post_jobs(1, job_s)

        ports = list(self.system.ports.values())
        callers = Load(ports, self._tenants, self._history, 1, CALLERS, self.system.webhook_port, PAUSE_S)
        feeder = threading.Thread(target=feed, name="feeder", daemon=True)
        callers.start()
        feeder.start()
        try:
            yield
        finally:
            stopping.set()
            feeder.join(60)
            callers.stop()
        self.wait(lambda: is_quiet(self.system), "not every job came to its end", _QUIET_WITHIN_S)

    def until_steady(self) -> None:
        """Every process is up, and nothing waits that should not. Raises ChaosFailed."""
        self.wait(lambda: self.system.is_ready() and not self.ask(_IS_BEHIND)[0][0], "no rest", _STEADY_WITHIN_S)

    def wait(self, condition: Callable[[], bool], otherwise: str, limit_s: float) -> None:
        self.system.wait(condition, otherwise, limit_s, 0.05)

    def ask(self, statement: Any, **bounds: object) -> Sequence[Row[Any]]:
        with self.system.engine.connect() as connection:
            return connection.execute(statement, bounds).all()

    def waits(self, since: float) -> list[Wait]:
        """Of each job posted since then; to be asked when all is quiet."""
        return [Wait(row.posted, row.started) for row in self.ask(_WAITS, since=since)]
