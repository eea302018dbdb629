"""Orders from outside: cancelling undoes the reservation once, and customers are told what they ordered."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.dev_servers import ask
from tests.end_to_end.running import Running, all_promises_hold, stopped, wait_until


def status(system: Running, order_id: str) -> str:
    return str(system.call("GET", f"/api/v1/orders/{order_id}")[1]["data"]["order"]["status"])


@pytest.mark.timeout(120)
def test_a_cancelled_order_gives_its_stock_back_and_says_so_once_however_often_it_is_asked(system: Running) -> None:
    # Given a confirmed order, and a subscriber who wants to hear of its end
    receiver, subscription = system.env["RECEIVER_CONTROL"], {"eventTypes": ["order.cancelled"]}
    endpoint = system.call("POST", "/api/v1/webhook-endpoints", {"url": system.env["RECEIVER_URL"], **subscription})[1]
    ask(receiver, "/secret", "PUT", {"secret": endpoint["data"]["secret"]})
    sku = system.product(5)
    order_id = system.order(sku, 3)
    wait_until(lambda: status(system, order_id) == "confirmed")
    assert system.query("SELECT on_hand, reserved FROM stock WHERE sku = :sku", sku=sku) == [(5, 3)]
    # When it is cancelled by several at once, and again afterwards
    with ThreadPoolExecutor(4) as threads:
        cancel = [threads.submit(system.call, "POST", f"/api/v1/orders/{order_id}/cancel") for _ in range(4)]
        assert {post.result()[0] for post in cancel} <= {202, 409}
    wait_until(lambda: status(system, order_id) == "cancelled")
    system.call("POST", f"/api/v1/orders/{order_id}/cancel")
    left = "SELECT 1 FROM jobs WHERE order_id = CAST(:id AS uuid) AND state NOT IN ('succeeded', 'dead', 'cancelled')"
    wait_until(lambda: not system.query(left, id=order_id))
    # Then nothing is held, each unit was freed once, and the subscriber heard of it once
    assert system.query("SELECT on_hand, reserved FROM stock WHERE sku = :sku", sku=sku) == [(5, 0)]
    events = "SELECT count(*) FROM events WHERE subject = CAST(:id AS uuid) AND type = 'order.cancelled'"
    assert system.query(events, id=order_id) == [(1,)]
    told = [one for one in ask(receiver, "/deliveries") if one["subject"] == order_id]
    assert [(one["type"], one["verified"]) for one in told] == [("order.cancelled", True)]
    all_promises_hold(system.engine)


@pytest.mark.timeout(120)
def test_a_customer_is_told_the_name_and_the_price_at_the_time_of_the_order(system: Running) -> None:
    # Given an order whose mail is not written yet
    sku = system.product(5)
    with stopped(system.pids()["worker-email"]):
        order_id = system.order(sku, 2)
        wait_until(lambda: status(system, order_id) == "confirmed")
        # When the product becomes dearer, and is called something else
        with system.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE products SET price = 99900, name = 'Another' WHERE sku = %(sku)s", {"sku": sku})
    # Then the mail tells what was agreed, and so does the event
    mails = "SELECT 1 FROM jobs WHERE order_id = CAST(:id AS uuid) AND queue = 'email' AND state = 'succeeded'"
    wait_until(lambda: bool(system.query(mails, id=order_id)), 40)
    (mail,) = ask(system.env["INBOX_URL"], f"/messages?about={order_id}")
    assert f"2 x Thing ({sku}) at 9.50 USD" in mail["text"]
    assert "Total: 19.00 USD" in mail["text"]
    event = "SELECT data -> 'total' FROM events WHERE subject = CAST(:id AS uuid) AND type = 'order.confirmed'"
    assert system.query(event, id=order_id) == [(19,)]
