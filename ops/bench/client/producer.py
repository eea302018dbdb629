"""The command line of a producer, the same for every peer: fill a queue, or send one job after the other on time.

    app.py fill COUNT         jobs numbered 0 to COUNT - 1, as fast as the system takes them
    app.py series COUNT GAP   one job each GAP seconds; a job's number is the moment just before it was sent

A series prints, as JSON, the moments just before and just after each call. Standard library only.
"""

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

PER_CALL = 1_000

Send = Callable[[float], Any]
SendMany = Callable[[Sequence[float]], Any]


def produce(send: Send, *, send_many: SendMany | None = None, before: Callable[[], Any] | None = None) -> None:
    """Does what the command line says. The functions may be plain ones or coroutine functions."""
    verb, count, *gap = sys.argv[1:]
    if verb == "fill":
        work = _fill(send, send_many, int(count))
    elif verb == "series":
        work = _series(send, int(count), float(gap[0]))
    else:
        raise SystemExit(f"{verb}: neither fill nor series")
    if any(inspect.iscoroutinefunction(function) for function in (send, before)):
        asyncio.run(_in_loop(before, work))
    else:
        _in_thread(before, work)


def _fill(send: Send, send_many: SendMany | None, count: int) -> Any:
    """Yields what each call answers, to be awaited where that is how the system works."""
    numbers = [float(number) for number in range(count)]
    if send_many is None:
        for number in numbers:
            yield send(number)
    else:
        for start in range(0, count, PER_CALL):
            yield send_many(numbers[start : start + PER_CALL])
    print("{}")


def _series(send: Send, count: int, gap_s: float) -> Any:
    """Yields seconds to wait, or what a call answers."""
    moments, started = [], time.monotonic()
    for number in range(count):
        yield max(0.0, started + number * gap_s - time.monotonic())
        before = time.monotonic()
        yield send(before)
        moments.append((before, time.monotonic()))
    print(json.dumps(moments))


def _in_thread(before: Callable[[], Any] | None, work: Any) -> None:
    if before is not None:
        before()
    for step in work:
        if isinstance(step, float):
            time.sleep(step)


async def _in_loop(before: Callable[[], Awaitable[Any]] | None, work: Any) -> None:
    if before is not None:
        await before()
    for step in work:
        if isinstance(step, float):
            await asyncio.sleep(step)
        elif inspect.isawaitable(step):
            await step
