"""Load that goes on beside a measurement: a thread that keeps a queue filled, or offers jobs at a steady rate."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from ops.bench.fleet import BenchFailed, Fleet
from workers.broker import ring_relay

_LOOK_EVERY_S = 0.01


class Feeder:
    """Numbers its jobs from 0; `sent` has the moment at which each was durable."""

    def __init__(self, running: Fleet, job: Callable[[float], JobArgs]) -> None:
        self._running, self._job = running, job
        self._stopping, self._broken = threading.Event(), list[BaseException]()
        self.sent: list[float] = []

    def add(self, count: int) -> None:
        first = len(self.sent)
        with self._running.engine.begin() as tx:
            jobs = [self._job(float(first + number)) for number in range(count)]
            enqueue(tx, [new_job(args, tenant_id=self._running.tenant_id) for args in jobs])
        self.sent += [time.monotonic()] * count
        ring_relay(self._running.redis)

    @contextmanager
    def keeping(self, waiting: int, each: int) -> Iterator[None]:
        """At least so many jobs wait, added `each` at a time."""

        def feed() -> None:
            while not self._stopping.wait(_LOOK_EVERY_S):
                if len(self.sent) - self._running.sink.count() < waiting:
                    self.add(each)

        yield from self._beside(feed)

    @contextmanager
    def offering(self, jobs_per_s: float) -> Iterator[None]:
        """A job at a time, on time, whatever becomes of it."""

        def feed() -> None:
            started, before = time.monotonic(), len(self.sent)
            while not self._stopping.is_set():
                due_at = started + (len(self.sent) - before) / jobs_per_s
                if not self._stopping.wait(max(0.0, due_at - time.monotonic())):
                    self.add(1)

        yield from self._beside(feed)

    def _beside(self, feed: Callable[[], None]) -> Iterator[None]:
        self._stopping.clear()
        thread = threading.Thread(target=self._watched, args=(feed,), name="feeder", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()
        if self._broken:
            raise BenchFailed("the load could not be kept up") from self._broken[0]

    def _watched(self, feed: Callable[[], None]) -> None:
        try:
            feed()
        except Exception as error:  # noqa: BLE001  # told to whoever measures, when the load ends
            self._broken.append(error)
