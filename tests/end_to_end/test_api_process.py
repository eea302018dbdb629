"""The API as processes: one key is one order however many ask at once, and SIGTERM costs no caller an answer."""

import http.client
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.end_to_end.api_process import api_process, ask_for
from tests.end_to_end.running import Running, wait_until

TWINS = 64


@contextmanager
def no_order_gets_in(system: Running) -> Iterator[None]:
    """Meanwhile every insert of an order waits."""
    with system.engine.connect() as connection:
        connection.execute(text("LOCK TABLE orders IN SHARE MODE"))
        yield
        connection.rollback()


def stored(system: Running, sku: str) -> int:
    return int(system.query("SELECT count(*) FROM order_lines WHERE sku = :sku", sku=sku)[0][0])


@pytest.mark.parametrize("processes", [1, 2])
def test_twins_that_come_at_once_are_one_order_with_one_answer(system: Running, tmp_path: Path, processes: int) -> None:
    # Given a product and API processes on one database
    sku, key = system.product(10), uuid4().hex
    with ExitStack() as stack, ThreadPoolExecutor(TWINS) as threads:
        apis = [stack.enter_context(api_process(system, tmp_path)) for _ in range(processes)]
        # When one order is posted 64 times at once, so that twins meet in a flush, across flushes and processes
        with no_order_gets_in(system):
            posts = [threads.submit(apis[number % processes].order, sku, key) for number in range(TWINS)]
            time.sleep(0.3)  # let them gather
        answers = [post.result() for post in posts]
    # Then there is one order, and 64 times the same answer, one of them the first
    assert {status for status, _, _ in answers} == {202}
    assert len({json.dumps(body, sort_keys=True) for _, _, body in answers}) == 1
    assert [headers.get("idempotent-replayed") for _, headers, _ in answers].count(None) == 1
    assert stored(system, sku) == 1


def test_on_sigterm_every_request_under_way_is_answered_and_no_other_gets_in(system: Running, tmp_path: Path) -> None:
    sku = system.product(100)
    with api_process(system, tmp_path) as api:
        # Given callers whose orders wait for their commit, and a probe on a connection it keeps
        probe = api.connect()
        callers = [api.connect() for _ in range(30)]
        with no_order_gets_in(system):
            for number, caller in enumerate(callers):
                ask_for(caller, api.headers, sku, f"{sku}-{number}")
            time.sleep(0.3)  # until they are in
            # When the process is told to stop
            api.process.send_signal(signal.SIGTERM)
            wait_until(lambda: bool(api.said("shutdown_started")))
            # Then nobody gets in any more, not even on a connection that was kept, and nobody is answered too soon
            wait_until(lambda: not api.accepts_connections())
            probe.request("GET", "/readyz")
            with pytest.raises(http.client.RemoteDisconnected):
                probe.getresponse()
            assert api.process.poll() is None
            assert stored(system, sku) == 0
        # And each is answered once it is durable
        answers = [caller.getresponse() for caller in callers]
        assert {answer.status for answer in answers} == {202}
        assert stored(system, sku) == len(callers)
        # And it leaves
        assert api.process.wait(20) == 0
        for connection in (probe, *callers):
            connection.close()
    assert [line["signal"] for line in api.said("shutdown_started")] == ["SIGTERM"]
    assert len(api.said("shutdown_complete")) == 1
    assert api.said("request.failed") == []


def test_a_process_that_cannot_finish_in_time_says_so_and_leaves_with_one(system: Running, tmp_path: Path) -> None:
    with api_process(system, tmp_path, SHUTDOWN_TIMEOUT_SECONDS="1") as api:
        # Given a request that waits for longer than there is time to stop
        caller = api.connect()
        with system.engine.connect() as connection:
            connection.execute(text("LOCK TABLE products IN ACCESS EXCLUSIVE MODE"))
            caller.request("GET", "/api/v1/products", headers=api.headers)
            time.sleep(0.3)  # until it is in
            api.process.send_signal(signal.SIGINT)
            code = api.process.wait(10)
            connection.rollback()
        caller.close()
    assert code == 1
    assert [line["signal"] for line in api.said("shutdown_started")] == ["SIGINT"]
    assert len(api.said("shutdown_forced")) == 1
    assert api.said("shutdown_complete") == []


def test_an_api_whose_log_nobody_reads_any_more_serves_and_leaves_as_it_should(system: Running, tmp_path: Path) -> None:
    sku = system.product(10)
    with api_process(system, tmp_path, log_is_read=False) as api:
        status, _, _ = api.order(sku, uuid4().hex)
        assert status == 202
        api.process.send_signal(signal.SIGTERM)
        api.process.wait(30)
        with pytest.raises(OSError, match="refused"):
            api.connect()
