"""Seeded bugs of what belongs into one transaction, and is not in it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from sqlalchemy import Connection, Engine

from domain.events import Occurrence, publish
from domain.jobs.attempts import ClaimedJob, hold
from domain.jobs.retry_policy import Succeeded
from ops.chaos.mutants.graft import imported, mutant, replace
from workers.context import JobContext, LeaseLost
from workers.executor import Executor
from workers.recorder import write_outcomes


@mutant("work is done once")
def effects_after_the_success() -> None:
    """A job has succeeded before its effects are committed: when they fail, nobody does them."""

    @contextmanager
    def transaction(self: JobContext) -> Iterator[Connection]:
        with self._resources.engine.begin() as tx:
            if not hold(tx, [self.job]):
                raise LeaseLost
            write_outcomes(tx, [self.outcome(Succeeded(self.result))])
        self.finished = True
        with self._resources.engine.begin() as tx:
            yield tx

    replace(JobContext, "transaction", transaction)


@mutant("work is done once", faults=["workers-die", "worker-stop"])
def success_after_the_effects() -> None:
    """A job's effects are committed before its success: a worker that dies in between leaves both to be done again."""

    @contextmanager
    def transaction(self: JobContext) -> Iterator[Connection]:
        with self._resources.engine.begin() as tx:
            yield tx
        time.sleep(0.1)
        with self._resources.engine.begin() as tx:
            if not hold(tx, [self.job]):
                raise LeaseLost
            write_outcomes(tx, [self.outcome(Succeeded(self.result))])
        self.finished = True

    replace(JobContext, "transaction", transaction)


@mutant("mails arrive", faults=["mail-fails"])
def acknowledged_before_it_is_done() -> None:
    """A mail's job has succeeded as soon as a worker has it, and is done afterwards, if all goes well."""
    run = Executor._run_plain

    def acknowledge_first(self: Executor, handler: Any, job: ClaimedJob, args: Any, timeout_s: float) -> None:
        if not job.kind.startswith("email."):
            return run(self, handler, job, args, timeout_s)
        self._resources.holdings.start(job)
        ctx = JobContext(job, self._resources, timeout_s)
        self._conclude(job, ctx, Succeeded())
        with suppress(Exception):
            handler.run(args, ctx)
        return ctx.close()

    replace(Executor, "_run_plain", acknowledge_first)


@mutant("mails arrive", "webhooks arrive", faults=["workers-die"])
def events_after_the_decision() -> None:
    """The decision about an order is committed, and its events in the next transaction: a crash between loses them."""

    def publish_later(tx: Connection, occurrences: Sequence[Occurrence]) -> None:
        Thread(target=_publish, args=(tx.engine, occurrences), daemon=True).start()

    replace(imported("domain.inventory.reservations"), "publish", publish_later)


def _publish(engine: Engine, occurrences: Sequence[Occurrence]) -> None:
    time.sleep(0.2)
    with engine.begin() as tx:
        publish(tx, occurrences)
