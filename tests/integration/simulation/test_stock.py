"""Orders that meet at the same stock: every order of the steps of two, and worlds of many, held against a plain law."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import permutations, product
from types import ModuleType
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from domain.invariants import INVARIANTS, violations_of
from domain.inventory import reservations, stock
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    accepted,
    an_order,
    emptied_database,
    module_database,
    rows,
)
from tests.integration.simulation.sessions import Stage, orders_of
from tests.integration.simulation.shelves import Adjust, Deed, GiveUp, Release, Reserve, Ship, Shop, serial

SKUS = ("DESK", "LAMP", "VASE")
UNITS = 12
#: The others are about the jobs of orders, and here nobody works.
ABOUT_STOCK = {"stock_is_in_bounds", "ledger_sums_to_stock", "stock_is_taken_once", "reservations_match_orders"}


class Counter:
    """A shop on a real PostgreSQL, and what the law says that it is."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._stage, self.tenant_id = engine, Stage(engine), a_tenant(engine)
        for sku in SKUS:
            a_product(engine, self.tenant_id, sku, units=UNITS)
        self.shop = Shop(dict.fromkeys(SKUS, UNITS), dict.fromkeys(SKUS, 0), {})
        self.orders: dict[UUID, Mapping[str, int]] = {}

    def close(self) -> None:
        self._stage.close()

    def accept(self, *wanted: Mapping[str, int]) -> dict[UUID, Mapping[str, int]]:
        taken = accepted(self._engine, [an_order(self.tenant_id, units) for units in wanted])
        made = {order.order_id: units for order, units in zip(taken, wanted, strict=True)}
        self.orders |= made
        self.shop = self.shop._replace(statuses={**self.shop.statuses, **dict.fromkeys(made, "accepted")})
        return made

    def do(self, deed: Deed) -> None:
        self.race([deed], [True], (0, 0))

    def race(self, deeds: Sequence[Deed], commits: Sequence[bool], order: Sequence[int]) -> None:
        """It must come to what some order of those that committed comes to, one after the other."""
        said = self._stage.play([(deed.run, commit) for deed, commit in zip(deeds, commits, strict=True)], order)
        kept = [number for number, commit in enumerate(commits) if commit]
        committed, answers = [deeds[number] for number in kept], [said[number] for number in kept]
        found = self._read()
        ways = [serial(committed, self.shop, way) for way in permutations(range(len(committed)))]
        assert (answers, found) in ways, f"{answers} and {found} are none of {ways}"
        self.shop = found

    def _read(self) -> Shop:
        units = rows(self._engine, "SELECT sku, on_hand, reserved FROM stock")
        statuses = rows(self._engine, "SELECT id, status FROM orders")
        return Shop(
            {sku: on_hand for sku, on_hand, _ in units},
            {sku: reserved for sku, _, reserved in units},
            {order_id: status for order_id, status in statuses},  # noqa: C416  # mypy knows no pairs in rows
        )

    def check(self) -> None:
        with self._engine.begin() as tx:
            broken = {one.name: violations_of(tx, one) for one in INVARIANTS if one.name in ABOUT_STOCK}
        assert not any(broken.values()), broken


@pytest.fixture
def counter(engine: Engine) -> Iterator[Counter]:
    counter = Counter(engine)
    yield counter
    counter.check()
    counter.close()


Meeting = Callable[[Counter], Sequence[Deed]]


def reserve_reserve(counter: Counter) -> Sequence[Deed]:
    """There is enough for one of them."""
    return Reserve(counter.tenant_id, counter.accept({"LAMP": 7, "DESK": 1})), Reserve(
        counter.tenant_id, counter.accept({"VASE": 1, "LAMP": 7})
    )


def twice_the_same(counter: Counter) -> Sequence[Deed]:
    orders = counter.accept({"LAMP": 1}, {"DESK": 1})
    return Reserve(counter.tenant_id, orders), Reserve(counter.tenant_id, orders)


def reserve_release(counter: Counter) -> Sequence[Deed]:
    orders = counter.accept({"LAMP": 1}, {"DESK": 1})
    return Reserve(counter.tenant_id, orders), Release(counter.tenant_id, orders)


def reserve_adjust(counter: Counter) -> Sequence[Deed]:
    return Reserve(counter.tenant_id, counter.accept({"LAMP": 7})), Adjust(counter.tenant_id, "LAMP", -7)


def reserve_give_up(counter: Counter) -> Sequence[Deed]:
    orders = counter.accept({"LAMP": 1})
    return Reserve(counter.tenant_id, orders), GiveUp(counter.tenant_id, orders)


def _confirmed(counter: Counter) -> Mapping[UUID, Mapping[str, int]]:
    orders = counter.accept({"LAMP": 1, "DESK": 1}, {"LAMP": 1})
    counter.do(Reserve(counter.tenant_id, orders))
    return orders


def release_release(counter: Counter) -> Sequence[Deed]:
    orders = _confirmed(counter)
    return Release(counter.tenant_id, orders), Release(counter.tenant_id, orders)


def release_ship(counter: Counter) -> Sequence[Deed]:
    orders = _confirmed(counter)
    return Release(counter.tenant_id, orders), Ship(counter.tenant_id, orders)


def ship_ship(counter: Counter) -> Sequence[Deed]:
    orders = _confirmed(counter)
    return Ship(counter.tenant_id, orders), Ship(counter.tenant_id, orders)


PAIRS = (
    reserve_reserve,
    twice_the_same,
    reserve_release,
    reserve_adjust,
    reserve_give_up,
    release_release,
    release_ship,
    ship_ship,
)


@pytest.mark.parametrize("meeting", PAIRS)
def test_two_who_meet_at_the_stock_come_one_after_the_other(counter: Counter, meeting: Meeting) -> None:
    for order, commits in product(orders_of(2), [(True, True), (True, False), (False, True)]):
        counter.do(Adjust(counter.tenant_id, "LAMP", UNITS - _free(counter, "LAMP")))
        counter.race(meeting(counter), commits, order)


def _free(counter: Counter, sku: str) -> int:
    return counter.shop.on_hand[sku] - counter.shop.reserved[sku]


def test_orders_of_a_busy_shop_obey_the_law(counter: Counter) -> None:
    dice = random.Random(5)
    for _ in range(60):
        counter.accept(*[{sku: dice.randint(1, 3) for sku in dice.sample(SKUS, 2)} for _ in range(4)])
        deeds = [_some_deed(counter, dice) for _ in range(dice.randint(1, 3))]
        steps = dice.choice(list(orders_of(len(deeds))))
        counter.race(deeds, [dice.random() < 0.8 for _ in deeds], steps)


def _some_deed(counter: Counter, dice: random.Random) -> Deed:
    sku, latest = dice.choice(SKUS), list(counter.orders)[-16:]
    chosen = {order_id: counter.orders[order_id] for order_id in dice.sample(latest, min(4, len(latest)))}
    made: Callable[[UUID, Mapping[UUID, Mapping[str, int]]], Deed] = dice.choice(
        (Reserve, Reserve, Release, Ship, GiveUp)
    )
    return (
        made(counter.tenant_id, chosen) if dice.random() < 0.8 else Adjust(counter.tenant_id, sku, dice.randint(-4, 8))
    )


@pytest.mark.parametrize(
    ("module", "statement", "piece"),
    [(reservations, "_LOCK_ORDERS", "ORDER BY id FOR UPDATE"), (stock, "_LOCK", "FOR NO KEY UPDATE OF s")],
)
def test_a_lock_of_the_stock_that_is_gone_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, module: ModuleType, statement: str, piece: str
) -> None:
    sql = getattr(module, statement).text
    assert piece in sql, "the mutant must be made anew"
    monkeypatch.setattr(module, statement, text(sql.replace(piece, "")))
    counter = Counter(engine)
    with closing(counter), pytest.raises((AssertionError, DBAPIError)):  # the law, or a constraint behind the guard
        _all_meet(counter)


def _all_meet(counter: Counter) -> None:
    for meeting in PAIRS:
        test_two_who_meet_at_the_stock_come_one_after_the_other(counter, meeting)
