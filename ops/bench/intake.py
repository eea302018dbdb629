"""intake: durable 202s per second over HTTP, beside the same server without a database and with a commit per request.

Some callers, then many, each with one request under way; keys, authentication and validation on. No relay or worker
runs meanwhile.
"""

import msgspec

from ops.bench.cost import Others, cpu_seconds
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.shop import CALLERS, Shop
from ops.bench.spread import spread

SECONDS, TURNS, QUICK_TURNS = 2.0, 2, 1
#: The goals are for the many: gathering is made for them.
SOME, MANY = CALLERS, 256
SKUS = 10
OF_THE_FLOOR, TIMES_ONE_EACH = 0.6, 3.0
_OURS, _FLOOR, _EACH = "longshore", "without a database", "one transaction each"
_FLOORS = {
    _OURS: "",
    _FLOOR: "no-database",
    _EACH: "one-transaction-each",
}
_DURABLE, _VOLATILE = "fsync; order, lines, job and outbox row before the 202", "none: nothing is stored"


class Taken(msgspec.Struct, frozen=True):
    """What one server did: 202s per second, CPU microseconds for each; and the others' share of the machine."""

    per_s: float
    api_us: float
    postgresql_us: float
    others: float


def intake(run: Run) -> Figure:
    """Medians of all turns. The servers are up together, and posted to in turn: what slows one slows all."""
    found: dict[tuple[str, int], list[Taken]] = {(name, callers): [] for callers in (SOME, MANY) for name in _FLOORS}
    for repeat in range(1, run.repeats + 1):
        run.say(f"intake {repeat}/{run.repeats}")
        with fleet() as running:
            shops = _open_all(running)
            skus = shops[_OURS].products(SKUS)
            for _ in range(QUICK_TURNS if run.quick else TURNS):
                for (name, callers), taken in found.items():
                    taken.append(_take(running, shops[name], skus, callers, is_durable=name != _FLOOR))
    rows: list[dict[str, Value]] = [
        {
            "server": f"{name}, {callers} callers",
            "202/s": spread([one.per_s for one in taken]),
            "API CPU us": spread([one.api_us for one in taken]),
            "PostgreSQL CPU us": spread([one.postgresql_us for one in taken]),
            "others %": spread([one.others * 100 for one in taken]),
            "durability": _VOLATILE if name == _FLOOR else _DURABLE,
        }
        for (name, callers), taken in found.items()
    ]
    median = {name: spread([one.per_s for one in found[name, MANY]]).median for name in _FLOORS}
    goals = [
        Goal("202s per second, times the floor without a database", median[_OURS] / median[_FLOOR], OF_THE_FLOOR),
        Goal("202s per second, times one transaction per request", median[_OURS] / median[_EACH], TIMES_ONE_EACH),
    ]
    notes = [
        f"The goals are for {MANY} callers. They share the machine with one API process; their CPU time is inside."
    ]
    return Figure("intake", "Durable 202s per second", rows, goals, notes, chart="202/s")


def _open_all(running: Fleet) -> dict[str, Shop]:
    shops = dict[str, Shop]()
    for number, (name, floor) in enumerate(_FLOORS.items()):
        shops[name] = shop = Shop(running, f"web-{number}")
        shop.open_floor(floor) if floor else shop.open()
    return shops


def _take(running: Fleet, shop: Shop, skus: list[str], callers: int, *, is_durable: bool) -> Taken:
    before = _orders(running)
    spent, others = cpu_seconds(running.pids), Others()
    answered = shop.post(skus, SECONDS, callers=callers)
    share = others.share()
    spent = {name: seconds - spent[name] for name, seconds in cpu_seconds(running.pids).items()}
    if is_durable and (stored := _orders(running) - before) != answered.posted:
        raise BenchFailed(f"{answered.posted} orders were accepted and {stored} are stored")
    each_us = {name: seconds / answered.posted * 1e6 for name, seconds in spent.items()}
    return Taken(answered.accepted_per_s, each_us[shop.name], each_us["postgresql"], share)


def _orders(running: Fleet) -> int:
    return running.ask("SELECT count(*) FROM orders")
