"""One seed: a fresh system under load, its faults, then peace; every unknown outcome resolved; the verdict."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.chaos import deeds
from ops.chaos.beside import Beside
from ops.chaos.buckets import buckets_of
from ops.chaos.checker import check
from ops.chaos.clients import Client
from ops.chaos.faults import FAULTS, Fault, Scene
from ops.chaos.history import Endpoint, History, Posted, Tenant
from ops.chaos.judges import Finding
from ops.chaos.load import Load
from ops.chaos.observe import Seen, look
from ops.chaos.operators import Operator
from ops.chaos.plan import Choice, Planned, plan_of
from ops.chaos.rivals import EVERY_S, Rivals
from ops.chaos.system import ChaosFailed, System, system
from ops.chaos.tenants import settle_in
from ops.chaos.verdict import Verdict, per_second, share_of_5xx

CALLERS = 8
#: After the last fault is healed: some job ends, everything is up again, every unknown outcome is known, every job has
#: ended.
PROGRESS_WITHIN_S, UP_WITHIN_S, KNOWN_WITHIN_S, QUIET_WITHIN_S = 30.0, 60.0, 60.0, 120.0

_ENDED = text("SELECT extract(epoch FROM finished_at) FROM jobs WHERE finished_at IS NOT NULL")
_PROGRESS = text("SELECT EXISTS (SELECT FROM attempts WHERE finished_at > :healed_at)")
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
_QUIET = text("SELECT NOT EXISTS (SELECT FROM jobs WHERE state NOT IN ('succeeded', 'dead', 'cancelled'))")

Say = Callable[[str], None]


def run(
    seed: int, seconds: float, faults: Sequence[Fault], say: Say, mutant: str = "", logs: Path | None = None
) -> Verdict:
    """One run. Where a promise was broken, what all processes said is kept in `logs`.

    Raises ChaosFailed when the run could not be carried out.
    """
    with_standby = has_standby(seed, faults)
    faults = [one for one in faults if with_standby or not one.needs_standby]
    with system(seed, mutant, standby=with_standby) as running:
        history = History()
        ports, dice = list(running.ports.values()), random.Random(seed)  # noqa: S311  # faults, not secrets
        client = Client(ports, dice, history)
        tenants, lasting = settle_in(running, client)
        operator = Operator(running, tenants, history, seed)
        load = _load(running, tenants, history, seed)
        began, began_at = time.monotonic(), time.time()
        for part in (*load, operator):
            part.start()
        planned = plan_of(seed, seconds, [Choice(one.name, one.touches, one.seconds) for one in faults])
        fired = _strike(running, history, tenants[0].id, planned, seed, began, say)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        for part in load:
            part.stop()
        running.wires.straighten()
        say("healed")
        rest = Rest()
        findings, seen = _settle(running, client, history, operator, lasting, rest)
        ended_at = _ended_at(running)
        if findings and logs is not None:
            running.keep_logs(logs / f"seed-{seed}")
    posted = history.posted
    return Verdict(
        seed=seed,
        mutant=mutant,
        load_seconds=seconds,
        findings=findings,
        fired=fired,
        timeline=planned,
        accepted=sum(one.outcome == "accepted" for one in posted),
        refused=sum(one.outcome == "refused" for one in posted),
        resolved=rest.resolved,
        statuses=dict(sorted(history.statuses.items())),
        events=seen.events if seen else {},
        up_after_s=rest.up_s,
        quiet_after_s=rest.quiet_s,
        accepted_per_s=per_second([one.accepted_at - began for one in posted if one.outcome == "accepted"]),
        ended_per_s=per_second([at - began_at for at in ended_at]),
        progress_after_s=rest.progress_s,
        buckets=buckets_of(history, seen) if seen else {},
        operations=dict(sorted(history.operations.items())),
        share_of_5xx=share_of_5xx(history.statuses),
        slowest_accepted_s=seen.said.slowest_accepted_s if seen else 0.0,
    )


def has_standby(seed: int, faults: Sequence[Fault]) -> bool:
    """In each third run, if any fault needs one; in every run, if all do."""
    needing = sum(one.needs_standby for one in faults)
    return needing > 0 and (seed % 3 == 0 or needing == len(faults))


def _ended_at(running: System) -> list[float]:
    """When each job came to its end, in seconds of the epoch; nothing when the database cannot say."""
    with suppress(DBAPIError), running.engine.connect() as connection:
        return [float(at) for at in connection.execute(_ENDED).scalars()]
    return []


class Rest:
    """How long after the last fault was healed, in seconds; infinite until it is so. `resolved`: by their keys."""

    progress_s = up_s = quiet_s = float("inf")
    resolved = 0


def _settle(
    running: System, client: Client, history: History, operator: Operator, lasting: Sequence[Endpoint], rest: Rest
) -> tuple[list[Finding], Seen | None]:
    """Not to come to rest is a finding like any other: what hangs is as good as lost. Judges are asked all the same."""
    unknown = [posted for posted in history.posted if posted.outcome == "unknown"]
    restless: list[Finding] = []
    try:
        operator.stop()
        rest.progress_s = _progress(running, client, history, lasting[0].tenant)
        rest.up_s = running.wait(running.is_ready, "not every process was up again", UP_WITHIN_S)
        for posted in unknown:
            client.post(posted, KNOWN_WITHIN_S)
        rest.resolved = len(unknown)
    except ChaosFailed as failed:
        return [Finding("liveness", str(failed))], None
    try:
        rest.quiet_s = running.wait(lambda: is_quiet(running), "not every job came to its end", QUIET_WITHIN_S, 0.5)
    except ChaosFailed as failed:
        restless = [Finding("liveness", f"{failed}: {_unended(running)}")]
    seen = look(running, history, lasting)
    return [*restless, *check(history, seen)], seen


def _progress(running: System, client: Client, history: History, tenant: Tenant) -> float:
    """How long until some job has ended, in seconds. An order is posted, so that there is one. Raises ChaosFailed."""
    healed_at, began = datetime.now(UTC), time.monotonic()
    probe = Posted(tenant, {tenant.plenty[0]: 1}, began)
    history.begin(probe)
    client.post(probe, PROGRESS_WITHIN_S)
    running.wait(lambda: _has_ended_one(running, healed_at), "no job ended", PROGRESS_WITHIN_S)
    return time.monotonic() - began


def _has_ended_one(running: System, since: datetime) -> bool:
    with running.engine.connect() as connection:
        return bool(connection.execute(_PROGRESS, {"healed_at": since}).scalar())


def _load(running: System, tenants: Sequence[Tenant], history: History, seed: int) -> list[Load | Beside]:
    ports = list(running.ports.values())
    doer, fighter = random.Random(f"{seed} deeds"), random.Random(f"{seed} rivals")  # noqa: S311  # as above
    return [
        Load(ports, tenants, history, seed, CALLERS, running.webhook_port),
        Beside(deeds.deeds(running, tenants[0].id, doer), deeds.EVERY_S),
        Beside(Rivals(ports, tenants, history, fighter).quarrel, EVERY_S),
    ]


def _unended(running: System) -> str:
    """What has not ended, and what it waits for; nothing when the database cannot say."""
    with suppress(DBAPIError), running.engine.connect() as connection:
        return "; ".join(connection.execute(_UNENDED).scalars())
    return ""


def is_quiet(running: System) -> bool:
    with running.engine.connect() as connection:
        return bool(connection.execute(_QUIET).scalar())


def _strike(
    running: System, history: History, tenant_id: str, planned: Sequence[Planned], seed: int, began: float, say: Say
) -> dict[str, int]:
    """Every fault in its time, each on a thread of its own. Answers how often each took effect."""
    fired: Counter[str] = Counter()
    broken: list[str] = []
    touching: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def strike(number: int, one: Planned) -> None:
        scene = Scene(running, history, tenant_id, random.Random(f"{seed} {number}"))  # noqa: S311
        harm = contextmanager(FAULTS[one.name].harm)(scene)
        try:
            # To heal may take longer than planned: the next harm to the same thing waits for it.
            with touching[FAULTS[one.name].touches], ExitStack() as standing:
                with suppress(DBAPIError, RedisError):  # what it would harm is harmed already: it has not fired
                    standing.enter_context(harm)
                time.sleep(one.lasts_s)
        except Exception as error:  # noqa: BLE001  # a fault that cannot be undone voids the run
            broken.append(f"{one.name}: {type(error).__name__}: {error}")
        fired[one.name] += scene.fired

    threads = []
    for number, one in enumerate(planned):
        time.sleep(max(0.0, began + one.at_s - time.monotonic()))
        say(f"{one.at_s:6.1f} s  {one.name} for {one.lasts_s:.1f} s")
        threads.append(threading.Thread(target=strike, args=(number, one), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(90)
    if broken:
        raise ChaosFailed("; ".join(broken))
    return dict(sorted(fired.items()))
