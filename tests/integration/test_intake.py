"""Taking orders in: all of an order or nothing, once per key, and a flush that fails leaves nothing behind."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DataError, IntegrityError

from domain.database import connect
from domain.errors import BodyInvalid, IdempotencyKeyReused, LongshoreError
from domain.ids import new_id
from domain.orders.intake import LARGEST_TOTAL, AcceptedOrder, IntakeLine
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    accepted,
    an_order,
    answers,
    at_once,
    claimed,
    emptied_database,
    execute,
    module_database,
    row,
    rows,
    scalar,
)

COUNTS = (
    "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines), (SELECT count(*) FROM jobs), "
    "(SELECT count(*) FROM outbox)"
)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    tenant_id = a_tenant(engine)
    for sku in ("LAMP", "DESK"):
        a_product(engine, tenant_id, sku)
    return tenant_id


def counts(engine: Engine) -> tuple[int, ...]:
    return tuple(row(engine, COUNTS))


def codes(answer: AcceptedOrder | LongshoreError | Exception) -> list[tuple[str, str]]:
    assert isinstance(answer, BodyInvalid)
    return [(violation.field, violation.code) for violation in answer.violations]


def test_an_order_its_lines_its_root_job_and_its_obligation_stand_together(engine: Engine, tenant_id: UUID) -> None:
    order = an_order(tenant_id, {"LAMP": 2, "DESK": 1}, trace_context='{"requestId": "r-1"}')
    (answer,) = accepted(engine, [order])
    assert counts(engine) == (1, 2, 1, 1)
    stored = row(engine, "SELECT * FROM orders")
    assert (stored.id, stored.root_job_id, stored.status) == (answer.order_id, answer.job_id, "accepted")
    assert (stored.total, stored.request_hash) == (3 * 1999, order.request_hash)
    (job,) = claimed(engine, [answer.job_id])
    assert (job.kind, job.args) == ("inventory.reserve", {"order_id": str(answer.order_id)})
    assert (job.order_id, job.tenant_id, job.trace_context) == (answer.order_id, tenant_id, {"requestId": "r-1"})
    assert job.max_attempts == 10
    assert answer.created_at == stored.created_at
    assert not answer.replayed


def test_many_orders_are_answered_in_the_order_they_came(engine: Engine, tenant_id: UUID) -> None:
    orders = [an_order(tenant_id, customer_email=f"{number}@example.com") for number in range(20)]
    ids = [answer.order_id for answer in accepted(engine, orders)]
    emails = dict(rows(engine, "SELECT id, customer_email FROM orders"))
    assert [emails[order_id] for order_id in ids] == [order.customer_email for order in orders]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"lines": [IntakeLine("LAMP", 0)]}, IntegrityError),  # refused by a CHECK of order_lines
        ({"lines": [IntakeLine("LAMP", 1)] * 2}, IntegrityError),  # lines of one SKU are merged before
        ({"lines": [IntakeLine("LAMP", 2**31)]}, DataError),
        ({"customer_email": "a\x00b@example.com"}, DataError),
        ({"trace_context": "no json"}, DataError),
    ],
)
def test_a_flush_that_cannot_be_stored_leaves_nothing(
    engine: Engine, tenant_id: UUID, bad: dict[str, Any], error: type[Exception]
) -> None:
    orders = [an_order(tenant_id), an_order(tenant_id, **bad), an_order(tenant_id)]
    with pytest.raises(error):
        answers(engine, orders)
    assert counts(engine) == (0, 0, 0, 0)
    assert len(accepted(engine, [orders[0], orders[2]])) == 2


@pytest.mark.parametrize("table", ["order_lines", "jobs", "outbox"])
def test_an_injected_failure_between_any_two_steps_leaves_nothing(engine: Engine, tenant_id: UUID, table: str) -> None:
    body = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE unique_violation; END'"
    execute(engine, f"CREATE FUNCTION fail() {body}")
    execute(engine, f"CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()")
    try:
        with pytest.raises(IntegrityError):
            answers(engine, [an_order(tenant_id), an_order(tenant_id)])
    finally:
        execute(engine, "DROP FUNCTION fail CASCADE")
    assert counts(engine) == (0, 0, 0, 0)


def test_an_order_whose_answer_was_lost_is_found_by_its_key(engine: Engine, tenant_id: UUID) -> None:
    # Given an intake that loses its connection after the commit, so that no 202 goes out
    order = an_order(tenant_id)
    lost: list[str] = []

    def lose(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO orders" in statement and not lost:
            lost.append(statement)
            raise ConnectionError

    event.listen(engine, "after_cursor_execute", lose)
    with pytest.raises(ConnectionError):
        answers(engine, [order])
    # When the caller sends the same again
    (found,) = accepted(engine, [order])
    # Then there is one order
    assert found.replayed
    assert counts(engine) == (1, 1, 1, 1)


def test_the_same_key_and_request_find_the_first_order_and_store_nothing(engine: Engine, tenant_id: UUID) -> None:
    order = an_order(tenant_id)
    (first,) = accepted(engine, [order])
    (again,) = accepted(engine, [order])
    assert (again.order_id, again.job_id, again.created_at, again.replayed) == (
        first.order_id,
        first.job_id,
        first.created_at,
        True,
    )
    assert counts(engine) == (1, 1, 1, 1)


def test_the_same_key_with_another_request_is_refused(engine: Engine, tenant_id: UUID) -> None:
    accepted(engine, [an_order(tenant_id, idempotency_key="k")])
    (answer,) = answers(engine, [an_order(tenant_id, {"DESK": 1}, idempotency_key="k")])
    assert isinstance(answer, IdempotencyKeyReused)
    assert counts(engine) == (1, 1, 1, 1)


def test_a_known_key_is_answered_even_if_the_product_is_gone_or_dearer(engine: Engine, tenant_id: UUID) -> None:
    order = an_order(tenant_id)
    (first,) = accepted(engine, [order])
    execute(engine, "UPDATE products SET currency = 'USD', price = 1")
    assert [again.order_id for again in accepted(engine, [order])] == [first.order_id]


def test_the_keys_of_two_tenants_have_nothing_to_do_with_each_other(engine: Engine, tenant_id: UUID) -> None:
    other = a_tenant(engine, "umbrella")
    a_product(engine, other)
    orders = [an_order(tenant, idempotency_key="k") for tenant in (tenant_id, other)]
    assert [answer.replayed for answer in accepted(engine, orders)] == [False, False]
    assert counts(engine) == (2, 2, 2, 2)


def test_sixteen_callers_with_one_key_at_once_make_one_order(
    engine: Engine, database_url: str, tenant_id: UUID
) -> None:
    order = an_order(tenant_id)
    crowd = connect(database_url, process="test", pool_size=16)
    found = at_once(*[lambda: accepted(crowd, [order])[0]] * 16)
    crowd.dispose()
    taken = [answer for answer in found if isinstance(answer, AcceptedOrder)]
    assert len(taken) == 16
    assert len({answer.order_id for answer in taken}) == 1
    assert [answer.replayed for answer in taken].count(False) == 1
    assert counts(engine) == (1, 1, 1, 1)


def test_twins_within_one_flush_make_one_order(engine: Engine, tenant_id: UUID) -> None:
    twin = an_order(tenant_id, idempotency_key="k")
    stranger = an_order(tenant_id, {"DESK": 1}, idempotency_key="k")
    first, second, third, other = answers(engine, [twin, twin, stranger, an_order(tenant_id)])
    assert isinstance(first, AcceptedOrder)
    assert isinstance(second, AcceptedOrder)
    assert isinstance(third, IdempotencyKeyReused)
    assert isinstance(other, AcceptedOrder)
    assert (first.order_id, first.replayed, second.replayed) == (second.order_id, False, True)
    assert counts(engine) == (2, 2, 2, 2)


def test_flushes_with_the_same_keys_in_opposite_order_do_not_deadlock(engine: Engine, tenant_id: UUID) -> None:
    # Given inserts so slow that both flushes hold their first key before either reaches its second
    body = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END'"
    execute(engine, f"CREATE FUNCTION dawdle() {body}")
    execute(engine, "CREATE TRIGGER dawdle BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION dawdle()")
    orders = [an_order(tenant_id) for _ in range(3)]
    # When they run at once
    try:
        first, second = at_once(lambda: accepted(engine, orders), lambda: accepted(engine, orders[::-1]))
    finally:
        execute(engine, "DROP FUNCTION dawdle CASCADE")
    # Then both are answered, and each order was made by one of them
    assert isinstance(first, list)
    assert isinstance(second, list)
    pairs = list(zip(first, second[::-1], strict=True))
    assert all(one.order_id == other.order_id and one.replayed != other.replayed for one, other in pairs)


def test_an_unknown_product_is_named_by_its_line_and_stops_nobody_else(engine: Engine, tenant_id: UUID) -> None:
    bad = an_order(tenant_id, {"LAMP": 1, "SOFA": 1, "BED": 1})
    refused, taken = answers(engine, [bad, an_order(tenant_id)])
    assert codes(refused) == [("lines[1].sku", "UNKNOWN_SKU"), ("lines[2].sku", "UNKNOWN_SKU")]
    assert isinstance(taken, AcceptedOrder)
    assert counts(engine) == (1, 1, 1, 1)


def test_another_tenants_product_is_unknown(engine: Engine, tenant_id: UUID) -> None:
    a_product(engine, a_tenant(engine, "umbrella"), "UMBRELLA-ONLY")
    (refused,) = answers(engine, [an_order(tenant_id, {"UMBRELLA-ONLY": 1})])
    assert codes(refused) == [("lines[0].sku", "UNKNOWN_SKU")]


def test_a_currency_that_is_not_the_products_is_refused(engine: Engine, tenant_id: UUID) -> None:
    (refused,) = answers(engine, [an_order(tenant_id, currency="USD")])
    assert codes(refused) == [("currency", "CURRENCY_MISMATCH")]


def test_a_total_beyond_what_json_carries_exactly_is_refused(engine: Engine, tenant_id: UUID) -> None:
    execute(engine, "UPDATE products SET price = :price", price=LARGEST_TOTAL)
    assert isinstance(answers(engine, [an_order(tenant_id)])[0], AcceptedOrder)
    (refused,) = answers(engine, [an_order(tenant_id, {"LAMP": 2})])
    assert codes(refused) == [("lines", "OUT_OF_RANGE")]


@pytest.mark.parametrize("text", ["'; DROP TABLE orders; --", "$1", ":id", "%s %(x)s {} \\", '"', "NULL", "{a,b}"])
def test_what_looks_like_sql_is_data(engine: Engine, tenant_id: UUID, text: str) -> None:
    a_product(engine, tenant_id, text)
    order = an_order(tenant_id, {text: 1}, idempotency_key=text, customer_email=text)
    (answer,) = accepted(engine, [order])
    stored = row(engine, "SELECT idempotency_key, customer_email, sku FROM orders JOIN order_lines ON order_id = id")
    assert stored == (text, text, text)
    assert accepted(engine, [order])[0].order_id == answer.order_id


def test_prices_are_those_of_the_catalogue_at_the_time_of_the_order(engine: Engine, tenant_id: UUID) -> None:
    accepted(engine, [an_order(tenant_id, {"LAMP": 3})])
    execute(engine, "UPDATE products SET price = 1")
    assert scalar(engine, "SELECT total FROM orders") == 3 * 1999
    assert scalar(engine, "SELECT unit_price FROM order_lines") == 1999


def test_a_tenant_that_does_not_exist_stores_nothing(engine: Engine, tenant_id: UUID) -> None:
    (refused,) = answers(engine, [an_order(new_id())])
    assert codes(refused) == [("lines[0].sku", "UNKNOWN_SKU")]
    assert answers(engine, []) == []
    assert counts(engine) == (0, 0, 0, 0)
