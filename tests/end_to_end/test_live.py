"""An order's job, followed over HTTP from its 202 to its end while the whole system works on it."""

import time
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from api.job_news import HEARING_S
from tests.end_to_end.running import Running
from tests.integration.api.served import Served

ORDERS = 8


def test_orders_are_followed_to_their_end_and_told_by_word_not_by_reading_now_and_then(system: Running) -> None:
    server, key = Served(int(urlsplit(system.env["LONGSHORE_URL"]).port or 0)), system.env["LONGSHORE_API_KEY"]
    sku = system.product(100)
    started_at = time.monotonic()
    for _ in range(ORDERS):
        # When an order is posted, and its stream opened from the link in the answer
        body = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": sku, "quantity": 1}]}
        status, answer = system.call("POST", "/api/v1/orders", body, key=uuid4().hex)
        assert status == 202
        job_id = UUID(answer["data"]["job"]["id"])
        assert answer["links"]["events"] == f"/api/v1/jobs/{job_id}/events"
        stream = server.follow(job_id, key)
        told = [stream.job()]
        while told[-1][1] != "succeeded":
            told.append(stream.job())
        # Then each event is newer than the one before, the last is the end, and there is nothing behind it
        assert stream.next() is None
        versions = [int(version) for version, _ in told]
        assert versions == sorted(set(versions))
        assert server.read(answer["links"]["events"], X_API_Key=key, Last_Event_ID=told[-1][0])[0] == 204
    # And all of them took less than one of them would have taken without word
    assert time.monotonic() - started_at < HEARING_S


def test_a_long_poll_waits_for_a_report(system: Running) -> None:
    body = {"type": "orders", "from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    status, answer = system.call("POST", "/api/v1/reports", body)
    assert status == 202
    server, key = Served(int(urlsplit(system.env["LONGSHORE_URL"]).port or 0)), system.env["LONGSHORE_API_KEY"]
    path = f"/api/v1/jobs/{answer['data']['jobId']}"
    status, done, headers = server.read(path, X_API_Key=key, Prefer="respond-async, wait=30")
    assert (status, done["data"]["state"], headers["preference-applied"]) == (200, "succeeded", "wait=30")
