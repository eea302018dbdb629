"""Publishing: the event, and a job for everyone who consumes it, stand or fall with what happened."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from domain.event_types import Event, Line, OrderCancelled, OrderConfirmed, OrderRejected, ReportCompleted
from domain.events import Occurrence, publish
from domain.ids import new_id
from domain.jobs.kind import JobArgs
from domain.webhooks.deletion import delete_endpoint
from domain.webhooks.endpoints import RetryOverride, create_endpoint
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    SECRET_KEY,
    a_tenant,
    at_once,
    claimed,
    declarations,
    emptied_database,
    module_database,
    row,
    rows,
    scalar,
)

ORDER = new_id()
CONFIRMED = OrderConfirmed(
    order_id=ORDER, currency="EUR", total=Decimal("19.99"), lines=[Line("LAMP", 1, Decimal("19.99"))]
)
COUNTS = (
    "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs), (SELECT count(*) FROM outbox), "
    "(SELECT count(*) FROM webhook_deliveries)"
)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with declarations():
        yield


def endpoint(engine: Engine, tenant_id: UUID, *types: str, retry: RetryOverride | None = None) -> UUID:
    with engine.begin() as tx:
        found: UUID = create_endpoint(tx, SECRET_KEY, tenant_id, "https://a.example/", types, retry)[0].id
    return found


def published(engine: Engine, tenant_id: UUID, event: Event = CONFIRMED, sequence: int = 2) -> None:
    with engine.begin() as tx:
        publish(tx, [Occurrence(tenant_id, ORDER, sequence, event, {"requestId": "r-1"})])


def kinds(engine: Engine) -> list[str]:
    return [kind for (kind,) in rows(engine, "SELECT kind FROM jobs ORDER BY kind")]


def receivers(engine: Engine) -> set[UUID]:
    return {found for (found,) in rows(engine, "SELECT endpoint_id FROM webhook_deliveries")}


def test_an_event_is_written_with_money_in_major_units_and_camel_case(engine: Engine, tenant_id: UUID) -> None:
    published(engine, tenant_id)
    event = row(engine, "SELECT * FROM events")
    assert (event.tenant_id, event.type, event.subject, event.sequence) == (tenant_id, "order.confirmed", ORDER, 2)
    line = {"sku": "LAMP", "quantity": 1, "unitPrice": 19.99}
    assert event.data == {"orderId": str(ORDER), "currency": "EUR", "total": 19.99, "lines": [line]}


def test_every_kind_declared_on_the_event_has_a_job_with_its_obligation(engine: Engine, tenant_id: UUID) -> None:
    class CountOrder(JobArgs, kind="test.count_order", on=OrderConfirmed):
        order_id: UUID
        currency: str

    published(engine, tenant_id)
    assert kinds(engine) == ["email.order_confirmed", "test.count_order"]
    job = row(engine, "SELECT * FROM jobs JOIN outbox ON job_id = id WHERE jobs.kind = 'test.count_order'")
    assert job.args == {"order_id": str(ORDER), "currency": "EUR"}
    assert (job.event_id, job.order_id) == (scalar(engine, "SELECT id FROM events"), ORDER)
    assert job.trace_context == {"requestId": "r-1"}


def test_an_event_that_nobody_consumes_is_kept_all_the_same(engine: Engine, tenant_id: UUID) -> None:
    published(engine, tenant_id, OrderCancelled(order_id=ORDER))
    assert row(engine, COUNTS) == (1, 0, 0, 0)


def test_each_endpoint_that_subscribed_gets_one_delivery_in_its_own_lane(engine: Engine, tenant_id: UUID) -> None:
    # Given endpoints for this type, for everything, for both, and for another type
    wanted = {
        endpoint(engine, tenant_id, "order.confirmed"),
        endpoint(engine, tenant_id, "*"),
        endpoint(engine, tenant_id, "*", "order.confirmed", "order.rejected"),
    }
    endpoint(engine, tenant_id, "order.rejected")
    # When the event is published
    published(engine, tenant_id)
    # Then each of the first three has one delivery, which waits in its lane
    assert row(engine, COUNTS) == (1, 1 + 3, 1 + 3, 3)
    assert receivers(engine) == wanted
    sql = "SELECT lane, args ->> 'endpoint_id', max_attempts FROM jobs WHERE kind = 'webhook.deliver'"
    assert set(rows(engine, sql)) == {(f"endpoint:{found}", str(found), 12) for found in wanted}


def test_another_tenants_endpoint_gets_nothing(engine: Engine, tenant_id: UUID) -> None:
    stranger = a_tenant(engine, "umbrella")
    theirs, ours = endpoint(engine, stranger, "*"), endpoint(engine, tenant_id, "*")
    published(engine, tenant_id)
    assert receivers(engine) == {ours}
    with engine.begin() as tx:
        publish(tx, [Occurrence(tenant, ORDER, 3, OrderCancelled(order_id=ORDER)) for tenant in (tenant_id, stranger)])
    pairs = rows(
        engine, "SELECT d.tenant_id, endpoint_id, type FROM webhook_deliveries AS d JOIN events AS e ON e.id = event_id"
    )
    assert sorted(pairs) == sorted(
        [
            (tenant_id, ours, "order.confirmed"),
            (tenant_id, ours, "order.cancelled"),
            (stranger, theirs, "order.cancelled"),
        ]
    )
    assert (
        scalar(
            engine,
            "SELECT count(*) FROM jobs AS j JOIN events AS e ON e.id = event_id WHERE j.tenant_id <> e.tenant_id",
        )
        == 0
    )


def test_an_endpoint_may_ask_for_fewer_attempts(engine: Engine, tenant_id: UUID) -> None:
    endpoint(engine, tenant_id, "*", retry=RetryOverride(max_attempts=2, base_seconds=1.0))
    published(engine, tenant_id, OrderCancelled(order_id=ORDER))
    assert scalar(engine, "SELECT max_attempts FROM jobs") == 2


def test_a_deleted_endpoint_gets_nothing_more_and_what_waited_is_cancelled(engine: Engine, tenant_id: UUID) -> None:
    gone = endpoint(engine, tenant_id, "*")
    published(engine, tenant_id, OrderCancelled(order_id=ORDER))
    with engine.begin() as tx:
        delete_endpoint(tx, tenant_id, gone)
    published(engine, tenant_id, OrderCancelled(order_id=ORDER), sequence=3)
    assert rows(engine, "SELECT state FROM jobs") == [("cancelled",)]
    assert row(engine, COUNTS) == (2, 1, 0, 0)


def test_everything_is_rolled_back_with_what_happened(engine: Engine, tenant_id: UUID) -> None:
    endpoint(engine, tenant_id, "*")

    def publish_then_fail() -> None:
        with engine.begin() as tx:
            publish(tx, [Occurrence(tenant_id, ORDER, 2, CONFIRMED)])
            raise LookupError

    with pytest.raises(LookupError):
        publish_then_fail()
    assert row(engine, COUNTS) == (0, 0, 0, 0)


def test_an_event_that_cannot_be_stored_leaves_nothing_of_its_neighbours(engine: Engine, tenant_id: UUID) -> None:
    bad = OrderRejected(order_id=ORDER, reason="a\x00b", sku="LAMP")
    with pytest.raises(DBAPIError), engine.begin() as tx:
        publish(tx, [Occurrence(tenant_id, ORDER, 2, CONFIRMED), Occurrence(tenant_id, ORDER, 3, bad)])
    assert row(engine, COUNTS) == (0, 0, 0, 0)


def test_publishing_nothing_does_nothing(engine: Engine) -> None:
    with engine.begin() as tx:
        publish(tx, [])
    assert row(engine, COUNTS) == (0, 0, 0, 0)


def test_only_events_of_orders_name_an_order(engine: Engine, tenant_id: UUID) -> None:
    endpoint(engine, tenant_id, "*")
    published(engine, tenant_id, ReportCompleted(report_id=new_id(), row_count=7))
    assert scalar(engine, "SELECT order_id FROM jobs") is None


def test_a_claimed_delivery_reads_back_what_was_published(engine: Engine, tenant_id: UUID) -> None:
    found = endpoint(engine, tenant_id, "*")
    published(engine, tenant_id, OrderCancelled(order_id=ORDER))
    (job,) = claimed(engine, [scalar(engine, "SELECT id FROM jobs")])
    event_id = scalar(engine, "SELECT id FROM events")
    assert job.args == msgspec.to_builtins({"endpoint_id": found, "event_id": event_id})
    assert (job.event_id, job.lane) == (event_id, f"endpoint:{found}")


def test_a_subscription_that_is_deleted_while_an_event_is_published_leaves_no_delivery_behind(
    engine: Engine, tenant_id: UUID
) -> None:
    for _ in range(5):
        gone = endpoint(engine, tenant_id, "*")

        def delete() -> None:
            with engine.begin() as tx:
                delete_endpoint(tx, tenant_id, gone)  # noqa: B023

        at_once(lambda: published(engine, tenant_id, OrderCancelled(order_id=ORDER)), delete)
        assert rows(engine, "SELECT FROM outbox") == []
        assert rows(engine, "SELECT FROM jobs WHERE state <> 'cancelled'") == []
