"""pgqueuer on PostgreSQL through asyncpg. `app.py worker` runs its manager with BENCH_BATCH jobs per fetch.

The manager is started here because the command line of this version does not start with the typer that it asks for.
"""

import os
import sys
from collections.abc import Sequence

import asyncpg
import uvloop
from mark import RECORD, mark
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from producer import produce

URL = os.environ["BENCH_DATABASE_URL"]

_queries: list[Queries] = []


def payload(number: float) -> bytes:
    return RECORD.pack(number, 0.0)


async def work() -> None:
    manager = PgQueuer.from_asyncpg_connection(await asyncpg.connect(URL))

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        mark(RECORD.unpack(job.payload)[0])

    await manager.run(batch_size=int(os.environ["BENCH_BATCH"]))


async def before() -> None:
    _queries.append(Queries(AsyncpgDriver(await asyncpg.connect(URL))))


async def send(number: float) -> None:
    await _queries[0].enqueue("noop", payload(number))


async def send_many(numbers: Sequence[float]) -> None:
    count = len(numbers)
    await _queries[0].enqueue(["noop"] * count, [payload(number) for number in numbers], [0] * count)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        uvloop.run(work())
    else:
        produce(send, send_many=send_many, before=before)
