"""Dramatiq as its guide sets it up, on Redis; with its results middleware when asked."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from mark import mark
from producer import produce

URL = os.environ["BENCH_REDIS_URL"]

broker = RedisBroker(url=URL)
if "BENCH_RESULTS" in os.environ:
    broker.add_middleware(Results(backend=RedisBackend(url=URL, use_namespace_prefix_keys=True), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: float) -> bool:
    mark(number)
    return True


if __name__ == "__main__":
    produce(noop.send)
