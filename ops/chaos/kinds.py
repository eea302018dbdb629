"""Kinds of job that only the harness knows: some do harm, one is an honest neighbour. Never imported by the product."""

import asyncio
import ctypes
import os
import socket
import sys
import time
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from domain.jobs.kind import JobArgs
from domain.jobs.retry_policy import Backoff, PermanentFailure
from workers.context import JobContext
from workers.registry import handles

QUEUE, TICK = "chaos", "chaos.tick"
#: How a rogue may end, but for `WELL`.
BADLY = ("exits", "is cancelled", "is mute", "goes too deep")
WELL = "well"
_RETRY = Backoff(max_attempts=5, base=0.2, cap=2.0)
_DO = "INSERT INTO chaos_deeds (job_id, claim) VALUES (%s, %s)"


class Honest(JobArgs, kind="chaos.honest", queue=QUEUE, retry=_RETRY):
    """Works for a while, and succeeds."""

    seconds: float


class Patient(JobArgs, kind="chaos.patient", queue=QUEUE, retry=_RETRY):
    """Works for longer than a lease, and succeeds at its first attempt."""

    seconds: float


class Deed(JobArgs, kind="chaos.deed", queue=QUEUE, retry=_RETRY):
    """Works for a while, and has one effect, which commits with its success; or takes it back and gives up."""

    seconds: float
    fails: bool


class Poison(JobArgs, kind="chaos.poison", queue=QUEUE, retry=_RETRY):
    """Takes its worker down, like a segmentation fault in a library."""


class Stall(JobArgs, kind="chaos.stall", queue=QUEUE, retry=_RETRY):
    """Holds Python's lock for so long: not even the thread that proves life gets a turn."""

    seconds: int


class Hang(JobArgs, kind="chaos.hang", queue=QUEUE, retry=Backoff(max_attempts=2, base=0.2, cap=1.0), timeout=2.0):
    """Waits for an answer that nobody will give, far past its timeout."""

    seconds: float


class Doomed(JobArgs, kind="chaos.doomed", queue=QUEUE, retry=_RETRY):
    """Fails for good at first, and is a deed when it is replayed."""


class Glutton(JobArgs, kind="chaos.glutton", queue=QUEUE, retry=_RETRY):
    """Eats so much memory, if it is given it."""

    mebibytes: int


class Rogue(JobArgs, kind="chaos.rogue", queue=QUEUE, retry=_RETRY):
    """Ends in a way that nobody would foresee, or well, as its mates in the bundle do."""

    how: str


class Newest(JobArgs, kind="chaos.newest", queue=QUEUE, retry=_RETRY):
    """A deed of a kind that the code before this one does not know."""


class Tick(JobArgs, kind=TICK, queue=QUEUE, retry=_RETRY):
    """What the calendar asks for: nothing but to be there, once for each tick."""

    schedule: str
    tick: datetime


@handles(Honest)
def be_honest(args: Honest, ctx: JobContext) -> None:  # noqa: ARG001  # the signature of a handler
    time.sleep(args.seconds)


@handles(Patient)
def be_patient(args: Patient, ctx: JobContext) -> None:  # noqa: ARG001
    time.sleep(args.seconds)


@handles(Tick)
def be_there(args: Tick, ctx: JobContext) -> None:  # noqa: ARG001
    return


@handles(Deed)
def do_a_deed(args: Deed, ctx: JobContext) -> None:
    time.sleep(args.seconds)
    with ctx.transaction() as tx:
        _do(tx, ctx)
        if args.fails:
            raise PermanentFailure("as it was asked to")


@handles(Poison)
def take_the_worker_down(args: Poison, ctx: JobContext) -> None:  # noqa: ARG001
    os.abort()


@handles(Stall)
def hold_the_lock(args: Stall, ctx: JobContext) -> None:  # noqa: ARG001
    ctypes.PyDLL(None).sleep(args.seconds)  # PyDLL keeps the lock, as careless C code does


@handles(Hang)
def hang(args: Hang, ctx: JobContext) -> None:  # noqa: ARG001
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_connection(silent.getsockname()) as end:
        end.settimeout(args.seconds)
        try:
            end.recv(1)
        except TimeoutError:
            return


@handles(Rogue)
async def end_somehow(args: Rogue, ctx: JobContext) -> object:  # noqa: ARG001
    match args.how:
        case "exits":
            sys.exit(3)
        case "is cancelled":
            raise asyncio.CancelledError
        case "is mute":
            raise Mute
        case "goes too deep":
            return msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)
        case _:
            return None


class Mute(Exception):
    """Not even its text can be had."""

    def __str__(self) -> str:
        raise AttributeError


@handles(Newest)
def do_as_of_late(args: Newest, ctx: JobContext) -> None:  # noqa: ARG001
    with ctx.transaction() as tx:
        _do(tx, ctx)


@handles(Doomed)
def fail_at_first(args: Doomed, ctx: JobContext) -> None:  # noqa: ARG001
    if ctx.attempt == 1:
        raise PermanentFailure("doomed")
    with ctx.transaction() as tx:
        _do(tx, ctx)


@handles(Glutton)
def eat(args: Glutton, ctx: JobContext) -> None:  # noqa: ARG001
    meal = [bytearray(os.urandom(1024)) * 1024 for _ in range(args.mebibytes)]
    time.sleep(0.5)
    meal.clear()


def _do(tx: Connection, ctx: JobContext) -> None:
    """The words are on the wire each time, so that a fault can wait for them."""
    session = tx.connection.driver_connection
    session.execute(_DO, (ctx.job_id, ctx.claim), prepare=False)  # type: ignore[union-attr]
