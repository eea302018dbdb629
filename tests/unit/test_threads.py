"""The threads of requests: a tenant has a quarter of them, others are served meanwhile, and his line is in order."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from uuid import UUID

import pytest

import api.threads
from api.threads import TENANT, Threads
from domain.errors import Overloaded

ONE, OTHER = UUID(int=1), UUID(int=2)
SIZE = 8


@pytest.fixture
def threads() -> Iterator[Threads]:
    with Threads(SIZE) as threads:
        yield threads


def ask(threads: Threads, tenant_id: UUID | None, work: Callable[[], Any]) -> Future[Any]:
    def submit() -> Future[Any]:
        TENANT.set(tenant_id)
        return threads.submit(work)

    return contextvars.copy_context().run(submit)


class Slow:
    """Work that ends when it is let; it knows how many of it ran at once."""

    def __init__(self) -> None:
        self.let, self.begun = threading.Event(), threading.Semaphore(0)
        self.order: list[int] = []

    def work(self, number: int) -> None:
        self.order.append(number)
        self.begun.release()
        assert self.let.wait(20)

    def ask(self, threads: Threads, number: int) -> Future[Any]:
        return ask(threads, ONE, lambda: self.work(number))


def test_a_tenant_has_a_quarter_of_them_and_others_are_served_meanwhile(threads: Threads) -> None:
    slow = Slow()
    asked = [slow.ask(threads, number) for number in range(20)]
    for _ in range(SIZE // 4):
        assert slow.begun.acquire(timeout=20)
    assert ask(threads, OTHER, lambda: "served").result(20) == "served"
    assert ask(threads, None, lambda: "served").result(20) == "served"
    assert slow.order == [0, 1]
    slow.let.set()
    for future in asked:
        future.result(20)
    assert sorted(slow.order) == list(range(20))
    # And his share is whole again
    again = Slow()
    asked = [again.ask(threads, number) for number in range(SIZE // 4)]
    for _ in asked:
        assert again.begun.acquire(timeout=20)
    again.let.set()


def test_one_thread_for_him_serves_his_line_in_order() -> None:
    slow = Slow()
    with Threads(4) as threads:
        asked = [slow.ask(threads, number) for number in range(20)]
        asked[7].cancel()
        slow.let.set()
        asked[-1].result(20)
    assert slow.order == [number for number in range(20) if number != 7]


def test_who_has_too_much_in_line_is_told_so(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.threads, "MOST_WAITING", 3)
    slow = Slow()
    for number in range(SIZE // 4 + 3):
        slow.ask(threads, number)
    with pytest.raises(Overloaded):
        slow.ask(threads, 99)
    assert ask(threads, OTHER, lambda: "served").result(20) == "served"
    slow.let.set()


def test_what_fails_fails_for_whoever_asked_and_holds_nobody_up() -> None:
    def fail() -> None:
        raise SystemExit(3)

    with Threads(4) as threads:
        failed = [ask(threads, ONE, fail) for _ in range(5)]
        assert ask(threads, ONE, lambda: "served").result(20) == "served"
        assert [type(future.exception(20)) for future in failed] == [SystemExit] * 5
