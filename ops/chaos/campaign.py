"""One seed: a fresh system under load, its faults, then peace; every unknown outcome resolved; the verdict."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.chaos import deeds, ticks
from ops.chaos.beside import Beside
from ops.chaos.buckets import buckets_of
from ops.chaos.clients import Client
from ops.chaos.evidence import keep_evidence, product
from ops.chaos.faults import FAULTS, Fault
from ops.chaos.history import History, Tenant
from ops.chaos.load import Load
from ops.chaos.operators import Operator
from ops.chaos.plan import Choice, plan_of
from ops.chaos.rest import Rest, settle
from ops.chaos.rivals import EVERY_S, Rivals
from ops.chaos.strikes import Say, strike_all
from ops.chaos.system import ChaosFailed, System, system
from ops.chaos.tenants import settle_in
from ops.chaos.verdict import Struck, Verdict, per_second, share_of_5xx

CALLERS = 8
#: Faults wait for one another, and some take minutes to heal: load goes on meanwhile, for so many times its own time.
_LOAD_AT_MOST = 1.5
_ENDED = text("SELECT extract(epoch FROM finished_at) FROM jobs WHERE finished_at IS NOT NULL")


def run(
    seed: int, seconds: float, faults: Sequence[Fault], say: Say, mutant: str = "", logs: Path | None = None
) -> Verdict:
    """One run. If it broke a promise its evidence is kept in `logs`; if it could not be carried out, what was said.

    Raises ChaosFailed when the run could not be carried out.
    """
    with_standby = has_standby(seed, faults)
    faults = [one for one in faults if with_standby or not one.needs_standby]
    keep = None if logs is None else logs / f"seed-{seed}"
    with system(seed, mutant, standby=with_standby) as running, _kept_when_void(running, keep):
        history = History()
        ports, dice = list(running.ports.values()), random.Random(seed)  # noqa: S311  # faults, not secrets
        client = Client(ports, dice, history)
        tenants, lasting = settle_in(running, client)
        operator = Operator(running, tenants, history, seed)
        load = _load(running, tenants, history, seed)
        began, began_at = time.monotonic(), time.time()
        for part in (*load, operator):
            part.start()
        enough = threading.Timer(_LOAD_AT_MOST * seconds, lambda: [part.stop() for part in load])
        enough.start()
        planned = plan_of(seed, seconds, [Choice(one.name, one.touches, one.seconds) for one in faults])
        strike_all(running, history, tenants[0].id, planned, seed, began, say)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        enough.cancel()
        for part in load:
            part.stop()
        running.wires.straighten()
        say("healed")
        rest = settle(running, client, history, operator, lasting)
        ended_per_s = per_second([at - began_at for at in _ended_at(running)])
        if rest.findings and keep is not None:
            keep_evidence(keep, running, history, rest)
    turns = history.stage.turns
    return Verdict(
        seed=seed,
        mutant=mutant,
        load_seconds=seconds,
        fired={one.name: sum(turn.times for turn in turns if turn.name == one.name) for one in faults},
        timeline=[Struck(turn.name, turn.since - began_at, turn.until - turn.since, turn.times) for turn in turns],
        ended_per_s=ended_per_s,
        at=datetime.fromtimestamp(began_at, UTC).isoformat(timespec="seconds"),
        product=product(),
        has_standby=with_standby,
        **_shown(history, rest, began),
    )


@contextmanager
def _kept_when_void(running: System, folder: Path | None) -> Iterator[None]:
    try:
        yield
    except ChaosFailed:
        if folder is not None:
            running.keep_logs(folder)
        raise


def _shown(history: History, rest: Rest, began: float) -> dict[str, Any]:
    """What a verdict has from callers, and from what was seen when all was at rest."""
    posted, seen = history.posted, rest.seen
    return {
        "findings": rest.findings,
        "accepted": sum(one.outcome == "accepted" for one in posted),
        "refused": sum(one.outcome == "refused" for one in posted),
        "resolved": rest.resolved,
        "statuses": dict(sorted(history.statuses.items())),
        "events": seen.events if seen else {},
        "up_after_s": rest.up_s,
        "quiet_after_s": rest.quiet_s,
        "accepted_per_s": per_second([one.accepted_at - began for one in posted if one.outcome == "accepted"]),
        "progress_after_s": rest.progress_s,
        "buckets": buckets_of(history, seen) if seen else {},
        "operations": dict(sorted(history.operations.items())),
        "share_of_5xx": share_of_5xx(history.statuses),
        "orders": dict(Counter(order.status for order in seen.orders)) if seen else {},
        "slowest_accepted_s": seen.said.slowest_accepted_s if seen else 0.0,
    }


def has_standby(seed: int, faults: Sequence[Fault]) -> bool:
    """In each third run of all faults; where faults were asked for by name, if any of them needs one."""
    return any(one.needs_standby for one in faults) and (seed % 3 == 0 or len(faults) < len(FAULTS))


def _ended_at(running: System) -> list[float]:
    """When each job came to its end, in seconds of the epoch; nothing when the database cannot say."""
    with suppress(DBAPIError), running.engine.connect() as connection:
        return [float(at) for at in connection.execute(_ENDED).scalars()]
    return []


def _load(running: System, tenants: Sequence[Tenant], history: History, seed: int) -> list[Load | Beside]:
    ports = list(running.ports.values())
    doer, fighter = random.Random(f"{seed} deeds"), random.Random(f"{seed} rivals")  # noqa: S311  # as above
    return [
        Load(ports, tenants, history, seed, CALLERS, running.webhook_port),
        Beside(deeds.deeds(running, history, tenants[0].id, doer), deeds.EVERY_S),
        Beside(ticks.schedules(running, tenants[0].id, history), ticks.EVERY_S),
        Beside(Rivals(ports, tenants, history, fighter).quarrel, EVERY_S),
    ]
