"""Procrastinate on PostgreSQL, through its psycopg connector."""

import os
from collections.abc import Sequence

from mark import mark
from procrastinate import App, PsycopgConnector
from producer import produce

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"], min_size=2, max_size=10))


@app.task(name="noop", queue="bench")
async def noop(number: float) -> None:
    mark(number)


async def send(number: float) -> None:
    await noop.defer_async(number=number)


async def send_many(numbers: Sequence[float]) -> None:
    await noop.batch_defer_async(*({"number": number} for number in numbers))


async def before() -> None:
    await app.open_async()


if __name__ == "__main__":
    produce(send, send_many=send_many, before=before)
