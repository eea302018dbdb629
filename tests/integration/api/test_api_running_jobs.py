"""Lists of running jobs ask with the few sessions that look up everybody's keys: with no more than two of them."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Connection

import api.routes.jobs
from tests.integration.api.shop import Customer, error_of

RUNNING = "/jobs?state=running"


class Slow:
    """What workers hold, told when it is let be told."""

    def __init__(self) -> None:
        self.let, self.begun = threading.Event(), threading.Semaphore(0)

    def held_jobs(self, _connection: Connection) -> Sequence[UUID]:
        self.begun.release()
        assert self.let.wait(20)
        return []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(api.routes.jobs, "held_jobs", slow.held_jobs)
    return slow


def test_two_are_made_at_once_and_the_next_in_their_turn(customer: Customer, slow: Slow) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(customer.get, RUNNING) for _ in range(4)]
        for _ in range(2):
            assert slow.begun.acquire(timeout=20)
        assert not slow.begun.acquire(timeout=0.2)
        stranger = customer.shop.customer()  # whose key is looked up
        assert stranger.get("/orders").status_code == 200
        slow.let.set()
        assert [answer.result().status_code for answer in answers] == [200] * 4


def test_who_waits_too_long_for_one_is_told_so(customer: Customer, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.routes.jobs, "LONGEST_WAIT_S", 0.1)
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(customer.get, RUNNING) for _ in range(2)]
        for _ in range(2):
            assert slow.begun.acquire(timeout=20)
        error_of(customer.get(RUNNING), 503, "OVERLOADED")
        slow.let.set()
        assert [answer.result().status_code for answer in answers] == [200] * 2
