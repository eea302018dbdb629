"""Who gets the stock: never more than is free, each order whole or not at all, first come first served."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.inventory.allocation_rules import Allocation, Demand, StockKey, allocate

ACME, UMBRELLA = UUID(int=1), UUID(int=2)
LAMP, DESK = (ACME, "LAMP"), (ACME, "DESK")

keys = st.sampled_from([LAMP, DESK, (ACME, "SOFA"), (UMBRELLA, "LAMP")])
stocks = st.dictionaries(keys, st.integers(0, 20))
demands = st.lists(st.dictionaries(keys, st.integers(1, 8), min_size=1), max_size=20).map(
    lambda wanted: [Demand(UUID(int=number), units) for number, units in enumerate(wanted)]
)


def served(asked: list[Demand], allocations: list[Allocation]) -> list[Demand]:
    return [demand for demand, allocation in zip(asked, allocations, strict=True) if allocation.short is None]


def units_of(given_out: list[Demand]) -> Counter[StockKey]:
    return sum((Counter(dict(demand.wanted)) for demand in given_out), Counter())


@given(stocks, demands)
def test_never_more_than_is_free_is_given_out(free: dict[StockKey, int], asked: list[Demand]) -> None:
    taken = units_of(served(asked, allocate(free, asked)))
    assert all(units <= free.get(key, 0) for key, units in taken.items())


@given(stocks, demands)
def test_every_order_gets_one_answer_in_the_order_they_came(free: dict[StockKey, int], asked: list[Demand]) -> None:
    assert [allocation.order_id for allocation in allocate(free, asked)] == [demand.order_id for demand in asked]


@given(stocks, demands)
def test_an_order_is_refused_only_if_those_served_before_it_left_too_little(
    free: dict[StockKey, int], asked: list[Demand]
) -> None:
    allocations = allocate(free, asked)
    for position, allocation in enumerate(allocations):
        taken = units_of(served(asked[:position], allocations[:position]))
        short = [key[1] for key, units in asked[position].wanted.items() if free.get(key, 0) - taken[key] < units]
        assert allocation.short == (short[0] if short else None)


@given(stocks, demands)
def test_the_given_stock_is_not_changed(free: dict[StockKey, int], asked: list[Demand]) -> None:
    before = dict(free)
    allocate(free, asked)
    assert free == before


def test_an_order_that_comes_up_short_takes_nothing_from_the_next() -> None:
    # Given one lamp, and a first order that wants it together with a desk that does not exist
    greedy, modest = Demand(UUID(int=1), {LAMP: 1, DESK: 1}), Demand(UUID(int=2), {LAMP: 1})
    # Then the second order has the lamp
    assert [allocation.short for allocation in allocate({LAMP: 1}, [greedy, modest])] == ["DESK", None]


def test_the_first_to_come_is_the_first_served() -> None:
    asked = [Demand(UUID(int=number), {LAMP: 2}) for number in range(3)]
    assert [allocation.short for allocation in allocate({LAMP: 5}, asked)] == [None, None, "LAMP"]


def test_one_tenants_stock_never_serves_another() -> None:
    assert allocate({LAMP: 5}, [Demand(UUID(int=1), {(UMBRELLA, "LAMP"): 1})])[0].short == "LAMP"
