"""A worker with kinds of the tests' own, on a queue that no other worker hears: `python -m tests.end_to_end.own_kinds`.

What a run leaves outside of the database is a line in the file it was told; an append is whole or not at all.
"""

import asyncio
import os
import signal
import time
from email.message import EmailMessage
from pathlib import Path

from domain.jobs.kind import KINDS, JobArgs
from domain.jobs.retry_policy import Backoff
from workers.context import JobContext
from workers.registry import HANDLERS, handles

QUEUE = "own"


class Nap(JobArgs, kind="own.nap", queue=QUEUE, retry=Backoff(max_attempts=3), timeout=120.0, bundle=1):
    """Sleeps, on its first run longer than later, then leaves a line."""

    first_s: float
    later_s: float
    file: str


class Effect(JobArgs, kind="own.effect", queue=QUEUE):
    """Leaves a line at once."""

    file: str


class Step(JobArgs, kind="own.step", queue=QUEUE, timeout=60.0):
    """Takes its time among mates that take none, one after the other, then leaves a line."""

    seconds: float
    file: str


class AsyncStep(JobArgs, kind="own.async_step", queue=QUEUE, timeout=60.0):
    """The same, all mates at once."""

    seconds: float
    file: str


class Deadly(JobArgs, kind="own.deadly", queue=QUEUE, retry=Backoff(max_attempts=10)):
    """Kills its worker if it shall, or leaves a line."""

    kills: bool
    file: str


class Stumble(JobArgs, kind="own.stumble", queue=QUEUE, retry=Backoff(max_attempts=3, base=1.0)):
    """Always fails."""


class Overrun(JobArgs, kind="own.overrun", queue=QUEUE, retry=Backoff(max_attempts=2, base=0.1), timeout=0.5):
    """Takes longer than it may."""


class Hang(JobArgs, kind="own.hang", queue=QUEUE, retry=Backoff(max_attempts=1), timeout=0.5):
    """Never comes back."""


class Letter(JobArgs, kind="own.letter", queue=QUEUE):
    """Sends a mail; its first run does not live to tell."""

    to: str


@handles(Nap)
def nap(args: Nap, ctx: JobContext) -> None:
    time.sleep(args.first_s if ctx.claim == 1 else args.later_s)
    _leave_line(args.file, str(ctx.job_id))


@handles(Effect)
def effect(args: Effect, ctx: JobContext) -> None:
    _leave_line(args.file, str(ctx.job_id))


@handles(Step)
def step(args: Step, ctx: JobContext) -> None:
    time.sleep(args.seconds)
    _leave_line(args.file, str(ctx.job_id))


@handles(AsyncStep)
async def async_step(args: AsyncStep, ctx: JobContext) -> None:
    await asyncio.sleep(args.seconds)
    _leave_line(args.file, str(ctx.job_id))


@handles(Deadly)
def deadly(args: Deadly, ctx: JobContext) -> None:
    if args.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    _leave_line(args.file, str(ctx.job_id))


@handles(Stumble)
def stumble(args: Stumble, ctx: JobContext) -> None:
    raise ConnectionResetError("the dependency stumbled")


@handles(Overrun)
def overrun(args: Overrun, ctx: JobContext) -> None:
    time.sleep(1.5)


@handles(Hang)
def hang(args: Hang, ctx: JobContext) -> None:
    time.sleep(3600)


@handles(Letter)
def letter(args: Letter, ctx: JobContext) -> None:
    mail = EmailMessage()
    mail["To"], mail["Subject"] = args.to, "One of its kind"
    ctx.mailer.send(mail, idempotency_key=ctx.job_id)
    if ctx.claim == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _leave_line(file: str, line: str) -> None:
    with Path(file).open("a") as out:
        out.write(f"{line}\n")


if __name__ == "__main__":
    import workers.late_bundles
    from ops.settings import load_settings
    from workers.worker import run_worker

    workers.late_bundles.STUCK_AFTER_S = 1.0  # a test shall not wait for half a minute
    run_worker(load_settings(), [QUEUE])
else:
    # A test builds their jobs; it does not do them. What other tests of its process see are the product's kinds.
    for name in [name for name in KINDS if name.startswith(f"{QUEUE}.")]:
        del KINDS[name], HANDLERS[name]
