"""After the last fault: something moves, all is up, each API accepts, every outcome is known, every job has ended.

Not to come to rest is a finding like any other: what hangs is as good as lost. Judges are asked all the same, unless
the database is not there to be asked.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.chaos.checker import check
from ops.chaos.clients import Client
from ops.chaos.history import Endpoint, History, Posted, Tenant
from ops.chaos.judges import Finding
from ops.chaos.observe import Seen, look
from ops.chaos.operators import Operator
from ops.chaos.system import ChaosFailed, System
from ops.chaos.ticks import stop_the_calendar

#: After the last fault is healed: some job ends, or an API accepts an order; everything is up again; every unknown
#: outcome is known; every job has ended.
PROGRESS_WITHIN_S, UP_WITHIN_S, KNOWN_WITHIN_S, QUIET_WITHIN_S = 30.0, 60.0, 60.0, 240.0
#: What has gathered meanwhile takes its time besides, on a machine that several systems share.
_JOBS_PER_S = 20.0

_PROGRESS = text("SELECT EXISTS (SELECT FROM jobs WHERE finished_at > :healed_at)")
_UNENDED = text(
    """
    SELECT concat_ws(' ', count(*), j.kind, j.state, 'due in ' || (min(o.due_at) - clock_timestamp()),
                     'in a lane that is ' || l.state || ' with ' || l.in_flight || ' of ' || l.room || ' in flight',
                     CASE WHEN c.paused_at IS NOT NULL THEN 'paused' END)
      FROM jobs AS j LEFT JOIN outbox AS o ON o.job_id = j.id LEFT JOIN lanes AS l ON l.name = o.lane
      LEFT JOIN controls AS c ON c.scope = 'queue' AND c.name = j.queue
     WHERE j.state NOT IN ('succeeded', 'dead', 'cancelled')
     GROUP BY j.kind, j.state, l.name, l.state, l.in_flight, l.room, c.paused_at LIMIT 10
    """
)
_GATHERED = text("SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'dead', 'cancelled')")


class Rest(msgspec.Struct):
    """What came after the last fault, and how many seconds it took; infinite when it did not come. `resolved`: by key.

    Nothing was `seen` when there was nobody to ask.
    """

    progress_s: float = float("inf")
    up_s: float = float("inf")
    quiet_s: float = float("inf")
    resolved: int = 0
    findings: list[Finding] = []
    seen: Seen | None = None


def settle(running: System, client: Client, history: History, operator: Operator, lasting: Sequence[Endpoint]) -> Rest:
    """Everything is told by the answer, also that the system did not come to rest."""
    try:
        return _settle(running, client, history, operator, lasting)
    finally:
        operator.close()


def _settle(running: System, client: Client, history: History, operator: Operator, lasting: Sequence[Endpoint]) -> Rest:
    rest = Rest()
    with _told(rest):
        operator.stop()
    with _told(rest):
        rest.progress_s = _progress(running, client, history, lasting[0].tenant)
        if rest.progress_s > PROGRESS_WITHIN_S:
            rest.findings.append(Finding("liveness", f"the first job ended after {rest.progress_s:.0f} s"))
    with _told(rest):
        rest.up_s = running.wait(running.is_ready, "not every process was up again", UP_WITHIN_S)
        rest.findings += _deaf(running, history, lasting[0].tenant)
    rest.resolved = _learned(client, history)
    with _told(rest):
        stop_the_calendar(running, history)
        operator.sweep()
    with _told(rest, lambda: f": {_unended(running)}"):
        rest.quiet_s = _quiet(running)
        operator.hold_in_peace(client)
        _quiet(running)
    with _told(rest):
        rest.seen = look(running, history, lasting)
        rest.findings += check(history, rest.seen)
    return rest


@contextmanager
def _told(rest: Rest, more: Callable[[], str] = str) -> Iterator[None]:
    """What was waited or asked for in vain is a finding, and whatever comes next is tried all the same."""
    try:
        yield
    except (ChaosFailed, DBAPIError) as failed:
        rest.findings.append(Finding("liveness", f"{failed}{more()}"))


def _learned(client: Client, history: History) -> int:
    """How many orders of unknown outcome were sent again. Where one cannot be learned, the next are not waited for."""
    within_s = KNOWN_WITHIN_S
    unknown = [posted for posted in history.posted if posted.outcome == "unknown"]
    for posted in unknown:
        client.post(posted, within_s)
        within_s = within_s if posted.outcome != "unknown" else 1.0
    return len(unknown)


def _progress(running: System, client: Client, history: History, tenant: Tenant) -> float:
    """How long until some job has ended, in seconds. An order is posted, so that there is one. Raises ChaosFailed."""
    healed_at, began = datetime.now(UTC), time.monotonic()
    probe = Posted(tenant, {tenant.plenty[0]: 1})
    history.begin(probe)
    client.post(probe, PROGRESS_WITHIN_S)
    running.wait(lambda: _has_ended_one(running, healed_at), "no job ended", PROGRESS_WITHIN_S)
    return time.monotonic() - began


def _deaf(running: System, history: History, tenant: Tenant) -> Iterator[Finding]:
    """Each API accepts an order by itself, or it is a finding: a caller whose balancer likes this one has no other."""
    for name, port in running.ports.items():
        probe = Posted(tenant, {tenant.plenty[0]: 1})
        history.begin(probe)
        Client([port], random.Random(0), history).post(probe, PROGRESS_WITHIN_S)  # noqa: S311
        if probe.outcome != "accepted":
            yield Finding("liveness", f"{name} says that it is ready, and accepts no order")


def _has_ended_one(running: System, since: datetime) -> bool:
    with running.engine.connect() as connection:
        return bool(connection.execute(_PROGRESS, {"healed_at": since}).scalar())


def _quiet(running: System) -> float:
    """How long until every job has ended, in seconds. Raises ChaosFailed."""
    gathered = 0

    def is_counted() -> bool:
        nonlocal gathered
        gathered = _unended_jobs(running)
        return True

    running.wait(is_counted, "the database could not say what is left", UP_WITHIN_S)
    limit_s = QUIET_WITHIN_S + gathered / _JOBS_PER_S
    return running.wait(lambda: is_quiet(running), "not every job came to its end", limit_s, 0.5)


def is_quiet(running: System) -> bool:
    return _unended_jobs(running) == 0


def _unended_jobs(running: System) -> int:
    with running.engine.connect() as connection:
        return int(connection.execute(_GATHERED).scalar_one())


def _unended(running: System) -> str:
    """What has not ended, and what it waits for; nothing when the database cannot say."""
    with suppress(DBAPIError), running.engine.connect() as connection:
        return "; ".join(connection.execute(_UNENDED).scalars())
    return ""
