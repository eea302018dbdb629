"""Taskiq on a Redis list, its fastest broker; results in Redis when asked."""

import os

from mark import mark
from producer import produce
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["BENCH_REDIS_URL"]

broker = ListQueueBroker(url=URL)
if "BENCH_RESULTS" in os.environ:
    results: RedisAsyncResultBackend[bool] = RedisAsyncResultBackend(URL, result_ex_time=3600, prefix_str="result")
    broker = broker.with_result_backend(results)


@broker.task(task_name="noop")
async def noop(number: float) -> bool:
    mark(number)
    return True


async def send(number: float) -> None:
    await noop.kiq(number)


if __name__ == "__main__":
    produce(send, before=broker.startup)
