"""intake: durable 202s per second over HTTP, beside the same server without a database and with a commit per request.

64 callers, each with one request under way; keys, authentication and validation on. No relay or worker runs meanwhile.
"""

from collections.abc import Callable

import msgspec

from ops.bench.cost import Others, cpu_seconds
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.shop import CALLERS, Shop
from ops.bench.spread import spread

SECONDS, QUICK_SECONDS = 5.0, 2.0
SKUS = 10
OF_THE_FLOOR, TIMES_ONE_EACH = 0.6, 3.0
_OURS, _FLOOR, _EACH = "longshore", "the same without a database", "the same, one transaction per request"
_DURABILITY = {
    _OURS: "fsync; order, lines, job and outbox row before the 202",
    _FLOOR: "none: nothing is stored",
    _EACH: "fsync; order, lines, job and outbox row before the 202",
}


class Taken(msgspec.Struct, frozen=True):
    """What one server did: 202s per second, CPU microseconds for each; and the others' share of the machine."""

    per_s: float
    api_us: float
    postgresql_us: float
    others: float


def intake(run: Run) -> Figure:
    """Medians of the repeats, the three servers in turn on one database."""
    found: dict[str, list[Taken]] = {name: [] for name in _DURABILITY}
    for repeat in range(1, run.repeats + 1):
        run.say(f"intake {repeat}/{run.repeats}")
        with fleet() as running:
            shop = Shop(running)
            skus = shop.products(SKUS)
            openings: dict[str, Callable[[], None]] = {
                _OURS: shop.open,
                _FLOOR: lambda shop=shop: shop.open_floor("no-database"),  # type: ignore[misc]
                _EACH: lambda shop=shop: shop.open_floor("one-transaction-each"),  # type: ignore[misc]
            }
            for name, open_shop in openings.items():
                found[name].append(_take(run, running, shop, skus, open_shop, is_durable=name != _FLOOR))
    rows: list[dict[str, Value]] = [
        {
            "server": name,
            "202/s": spread([one.per_s for one in taken]),
            "API CPU us": spread([one.api_us for one in taken]),
            "PostgreSQL CPU us": spread([one.postgresql_us for one in taken]),
            "others %": spread([one.others * 100 for one in taken]),
            "durability": _DURABILITY[name],
        }
        for name, taken in found.items()
    ]
    median = {name: spread([one.per_s for one in taken]).median for name, taken in found.items()}
    goals = [
        Goal("202s per second, times the floor without a database", median[_OURS] / median[_FLOOR], OF_THE_FLOOR),
        Goal("202s per second, times one transaction per request", median[_OURS] / median[_EACH], TIMES_ONE_EACH),
    ]
    notes = [f"{CALLERS} callers on the same machine, one API process; the callers' own CPU time is inside."]
    return Figure("intake", "Durable 202s per second", rows, goals, notes, chart="202/s")


def _take(
    run: Run, running: Fleet, shop: Shop, skus: list[str], open_shop: Callable[[], None], *, is_durable: bool
) -> Taken:
    before = _orders(running)
    open_shop()
    spent, others = cpu_seconds(running.pids), Others()
    answered = shop.post(skus, QUICK_SECONDS if run.quick else SECONDS)
    share = others.share()
    spent = {name: seconds - spent[name] for name, seconds in cpu_seconds(running.pids).items()}
    shop.close()
    if is_durable and (stored := _orders(running) - before) != answered.posted:
        raise BenchFailed(f"{answered.posted} orders were accepted and {stored} are stored")
    each_us = {name: seconds / answered.posted * 1e6 for name, seconds in spent.items()}
    return Taken(answered.accepted_per_s, each_us["web"], each_us["postgresql"], share)


def _orders(running: Fleet) -> int:
    return running.ask("SELECT count(*) FROM orders")
