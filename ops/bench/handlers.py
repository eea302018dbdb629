"""The kinds of job that only the benchmarks know, and what they do. Never imported by the product."""

import time

from domain.jobs.kind import JobArgs
from domain.jobs.retry_policy import Backoff
from ops.bench.client.mark import mark
from workers.context import JobContext
from workers.registry import handles

QUEUE = "bench"


class Noop(JobArgs, kind="bench.noop", queue=QUEUE, retry=Backoff(max_attempts=3, base=1.0, cap=10.0)):
    """Leaves its mark: what remains is the cost of the system around it."""

    number: float


class Nap(JobArgs, kind="bench.nap", queue=QUEUE, retry=Backoff(max_attempts=5, base=0.5, cap=5.0)):
    """Leaves its mark and takes a while, so that a killed worker is killed at work."""

    number: float
    seconds: float


@handles(Noop)
def do_nothing(args: Noop, ctx: JobContext) -> None:  # noqa: ARG001  # the signature of a handler
    mark(args.number)


@handles(Nap)
def nap(args: Nap, ctx: JobContext) -> None:  # noqa: ARG001  # the signature of a handler
    mark(args.number)
    time.sleep(args.seconds)
