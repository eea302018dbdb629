"""The threads of requests: a tenant has a quarter of them and, while nobody else is there, half; others are served
meanwhile, and his line is in order, and short.
"""

import contextvars
import gc
import threading
import weakref
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

    def ask(self, threads: Threads, number: int, tenant_id: UUID | None = ONE) -> Future[Any]:
        return ask(threads, tenant_id, lambda: self.work(number))

    def begins(self, times: int) -> None:
        for _ in range(times):
            assert self.begun.acquire(timeout=20)


def test_a_tenant_has_half_of_them_at_most_and_others_are_served_meanwhile(threads: Threads) -> None:
    slow = Slow()
    asked = [slow.ask(threads, number) for number in range(20)]
    slow.begins(SIZE // 2)
    assert ask(threads, OTHER, lambda: "served").result(20) == "served"
    assert ask(threads, None, lambda: "served").result(20) == "served"
    assert sorted(slow.order) == [0, 1, 2, 3]
    slow.let.set()
    for future in asked:
        future.result(20)
    assert sorted(slow.order) == list(range(20))
    # And his share is whole again
    again = Slow()
    asked = [again.ask(threads, number) for number in range(SIZE // 2)]
    again.begins(SIZE // 2)
    again.let.set()


@pytest.mark.parametrize("other", [OTHER, None])
def test_he_has_a_quarter_while_others_have_half_and_more_as_soon_as_they_are_done(
    threads: Threads, other: UUID | None
) -> None:
    theirs, slow = Slow(), Slow()
    held = [theirs.ask(threads, number, other) for number in range(SIZE // 2)]
    theirs.begins(SIZE // 2)
    asked = [slow.ask(threads, number) for number in range(20)]
    slow.begins(SIZE // 4)
    assert len(slow.order) == SIZE // 4
    theirs.let.set()
    for future in held:
        future.result(20)
    slow.begins(SIZE // 4)
    assert len(slow.order) == SIZE // 2
    slow.let.set()
    for future in asked:
        future.result(20)


def test_what_he_has_over_his_quarter_he_gives_back_when_others_come(threads: Threads) -> None:
    one_by_one, theirs = [Slow() for _ in range(20)], Slow()
    asked = [slow.ask(threads, number) for number, slow in enumerate(one_by_one)]
    for slow in one_by_one[: SIZE // 2]:
        slow.begins(1)
    held = [theirs.ask(threads, number, OTHER) for number in range(SIZE // 4)]
    theirs.begins(SIZE // 4)
    for slow, future in list(zip(one_by_one, asked, strict=True))[: SIZE // 4]:
        slow.let.set()
        future.result(20)
    ask(threads, OTHER, theirs.let.set).cancel()  # in line
    assert [slow.order for slow in one_by_one[SIZE // 2 :]] == [[]] * 16
    for slow in (theirs, *one_by_one):
        slow.let.set()
    for future in (*held, *asked):
        future.result(20)


def test_one_thread_for_him_serves_his_line_in_order() -> None:
    theirs, slow = Slow(), Slow()
    with Threads(4) as threads:
        for number in range(2):
            theirs.ask(threads, number, None)
        asked = [slow.ask(threads, number) for number in range(20)]
        asked[7].cancel()
        slow.let.set()
        asked[-1].result(20)
        theirs.let.set()
    assert slow.order == [number for number in range(20) if number != 7]


def test_what_has_waited_too_long_is_refused_and_not_done(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.threads, "LONGEST_WAIT_S", 0.2)
    slow = Slow()
    asked = [slow.ask(threads, number) for number in range(20)]
    slow.begins(SIZE // 2)
    assert not slow.let.wait(0.3)
    slow.let.set()
    assert [type(future.exception(20)) for future in asked[SIZE // 2 :]] == [Overloaded] * 16
    assert sorted(slow.order) == [0, 1, 2, 3]
    assert ask(threads, ONE, lambda: "served").result(20) == "served"


def test_who_has_too_much_in_line_is_told_so(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.threads, "MOST_WAITING", 3)
    slow = Slow()
    for number in range(SIZE // 2 + 3):
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


def test_an_error_leaves_with_whoever_was_told_it() -> None:
    class Refused(Exception):
        pass

    def refuse() -> None:
        raise Refused

    gc.disable()
    try:
        with Threads(4) as threads:
            told = ask(threads, ONE, refuse).exception(20)
        left = weakref.ref(told)
        del told
        assert left() is None
    finally:
        gc.enable()
