"""One seed: a fresh system under load, its faults, then peace; every unknown outcome resolved; the verdict."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from domain.tenants.keys import create_key, ensure_tenant
from ops.chaos import deeds
from ops.chaos.beside import Beside
from ops.chaos.checker import check
from ops.chaos.clients import Client, Load
from ops.chaos.faults import FAULTS, Fault, Scene
from ops.chaos.history import History, Posted, Tenant
from ops.chaos.judges import Finding
from ops.chaos.observe import Seen, look
from ops.chaos.plan import Choice, Planned, plan_of
from ops.chaos.rivals import EVERY_S, Rivals
from ops.chaos.system import ChaosFailed, System, system
from ops.chaos.verdict import Verdict, per_second

CALLERS = 8
TENANTS, PLENTY, SCARCE = 3, 8, 2
MUCH_STOCK, LITTLE_STOCK = 10_000_000, 40
#: After the last fault is healed: everything is up again, every unknown outcome is known, and every job has ended.
UP_WITHIN_S, KNOWN_WITHIN_S, QUIET_WITHIN_S = 60.0, 60.0, 120.0

_ENDED = text("SELECT extract(epoch FROM finished_at) FROM jobs WHERE finished_at IS NOT NULL")
_UNENDED = text(
    """
    SELECT string_agg(DISTINCT kind || ' is ' || state, ', ') FROM jobs
     WHERE state NOT IN ('succeeded', 'dead', 'cancelled')
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
        tenants = [_tenant(running, number) for number in range(TENANTS)]
        dice = random.Random(seed)  # noqa: S311  # faults, not secrets
        client = Client(list(running.ports.values()), dice, history)
        _stock(client, tenants)
        secrets = [_subscribe(client, running, tenant) for tenant in tenants]
        load = _load(running, tenants, history, seed)
        began, began_at = time.monotonic(), time.time()
        for part in load:
            part.start()
        planned = plan_of(seed, seconds, [Choice(one.name, one.touches, one.seconds) for one in faults])
        fired = _strike(running, history, tenants[0].id, planned, seed, began, say)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        for part in load:
            part.stop()
        running.wires.straighten()
        say("healed")
        unknown = [posted for posted in history.posted if posted.outcome == "unknown"]
        findings, seen, up_s, quiet_s = _settle(
            running, client, history, unknown, list(zip(tenants, secrets, strict=True))
        )
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
        resolved=len(unknown),
        statuses=dict(sorted(history.statuses.items())),
        events=seen.events if seen else {},
        up_after_s=up_s,
        quiet_after_s=quiet_s,
        accepted_per_s=per_second([one.accepted_at - began for one in posted if one.outcome == "accepted"]),
        ended_per_s=per_second([at - began_at for at in ended_at]),
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


def _settle(
    running: System, client: Client, history: History, unknown: Sequence[Posted], tenants: Sequence[tuple[Tenant, str]]
) -> tuple[list[Finding], Seen | None, float, float]:
    """Not to come to rest is a finding like any other: what hangs is as good as lost. Judges are asked all the same."""
    up_s = quiet_s = float("inf")
    restless: list[Finding] = []
    try:
        up_s = running.wait(running.is_ready, "not every process was up again", UP_WITHIN_S)
        for posted in unknown:
            client.post(posted, KNOWN_WITHIN_S)
    except ChaosFailed as failed:
        return [Finding("liveness", str(failed))], None, up_s, quiet_s
    try:
        quiet_s = running.wait(lambda: _is_quiet(running), "not every job came to its end", QUIET_WITHIN_S, 0.5)
    except ChaosFailed as failed:
        restless = [Finding("liveness", f"{failed}: {_unended(running)}")]
    seen = look(running, client, history, tenants)
    return [*restless, *check(history, seen)], seen, up_s, quiet_s


def _load(running: System, tenants: Sequence[Tenant], history: History, seed: int) -> list[Load | Beside]:
    ports = list(running.ports.values())
    doer, fighter = random.Random(f"{seed} deeds"), random.Random(f"{seed} rivals")  # noqa: S311  # as above
    return [
        Load(ports, tenants, history, seed, CALLERS),
        Beside(deeds.deeds(running, tenants[0].id, doer), deeds.EVERY_S),
        Beside(Rivals(ports, tenants, history, fighter).quarrel, EVERY_S),
    ]


def _unended(running: System) -> str:
    """What has not ended, by kind; nothing when the database cannot say."""
    with suppress(DBAPIError), running.engine.connect() as connection:
        return str(connection.execute(_UNENDED).scalar())
    return ""


def _is_quiet(running: System) -> bool:
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


def _tenant(running: System, number: int) -> Tenant:
    with running.engine.begin() as tx:
        tenant_id = ensure_tenant(tx, f"tenant-{number}")
        api_key = create_key(tx, tenant_id, "api", ["api"])
        admin_key = create_key(tx, tenant_id, "admin", ["api", "admin"])
    return Tenant(
        id=str(tenant_id),
        name=f"tenant-{number}",
        api_key=api_key,
        admin_key=admin_key,
        scarce=[f"SCARCE-{each}" for each in range(SCARCE)],
        plenty=[f"PLENTY-{each}" for each in range(PLENTY)],
    )


def _stock(client: Client, tenants: Sequence[Tenant]) -> None:
    for tenant in tenants:
        for sku in tenant.scarce + tenant.plenty:
            stock = LITTLE_STOCK if sku in tenant.scarce else MUCH_STOCK
            body = msgspec.json.encode({"sku": sku, "name": "Thing", "price": 9.5, "stock": stock})
            status, said = client.call("POST", "/products", tenant.admin_key, body)
            if status != 201:
                raise ChaosFailed(f"no product could be made: {status} {said[:200]!r}")


def _subscribe(client: Client, running: System, tenant: Tenant) -> str:
    """The secret of the tenant's endpoint, which hears of everything."""
    url = f"http://127.0.0.1:{running.webhook_port}/{tenant.name}"
    body = msgspec.json.encode({"url": url, "eventTypes": ["*"]})
    status, said = client.call("POST", "/webhook-endpoints", tenant.api_key, body)
    if status != 201:
        raise ChaosFailed(f"no endpoint could be made: {status} {said[:200]!r}")
    secret: str = msgspec.json.decode(said)["data"]["secret"]
    return secret
