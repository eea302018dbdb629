"""Celery on Redis: threads, a generous prefetch, no log of its own; results when asked."""

import os

from celery import Celery
from mark import mark
from producer import produce

URL = os.environ["BENCH_REDIS_URL"]
KEEPS_RESULTS = "BENCH_RESULTS" in os.environ

app = Celery("bench", broker=URL, backend=URL if KEEPS_RESULTS else None)
app.conf.update(
    task_ignore_result=not KEEPS_RESULTS,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(number: float) -> bool:
    mark(number)
    return True


if __name__ == "__main__":
    produce(noop.delay)
