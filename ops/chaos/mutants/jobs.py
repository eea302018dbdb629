"""Seeded bugs of leases, fences, crashes and dead letters."""

import os
import time
from collections.abc import Sequence
from threading import Thread
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from domain.jobs import finish
from domain.jobs.finish import Finish, FinishedJob
from domain.jobs.retry_policy import Succeeded
from domain.outages import is_outage
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite

_CRASHES = "what crashes is dead by its third crash"


@mutant("work is done once", "attempts follow one another", faults=["worker-stop"])
def finish_without_its_fence() -> None:
    """A worker whose job was taken over may still commit, and finish it."""
    rewrite("domain.jobs.attempts", "_HOLD", " AND t.claim = j.claim", "")
    rewrite("domain.jobs.attempts", "_HOLD", " AND j.state = 'running'", "")
    rewrite("domain.jobs.finish", "_SUCCEED", " AND claim = :claim AND state = 'running'", " AND :claim > 0")
    rewrite("domain.jobs.finish", "_SUCCEED", "FROM finished)", "FROM finished ON CONFLICT DO NOTHING)")
    for fence in (" AND d.claim = j.claim", " AND j.state = 'running'", " AND j.claim = d.claim"):
        rewrite("domain.jobs.finish", "_FINISH", fence, "")
    recorded = "CAST(detail AS jsonb)\n          FROM finished"
    rewrite("domain.jobs.finish", "_FINISH", f"{recorded})", f"{recorded} ON CONFLICT DO NOTHING)")


@mutant("liveness", faults=["workers-die"])
def leases_are_for_ever() -> None:
    """Nobody takes over the jobs of a worker that fell silent."""
    rewrite("domain.jobs.rescue", "_EXPIRED", "lease_until < clock_timestamp()", "false")


@mutant("liveness", faults=["workers-die"])
def leases_by_the_workers_clock() -> None:
    """A lease ends by the clock of the worker that took it, and every second worker's is ten minutes ahead."""
    by = f"clock_timestamp() + interval '{10 * (os.getpid() % 2)} minutes' + make_interval"
    for statement in ("_START", "_RENEW"):
        rewrite("domain.jobs.attempts", statement, "clock_timestamp() + make_interval", by)


@mutant(_CRASHES, faults=["poison"])
def crashes_are_not_counted() -> None:
    """Crashes are counted when a run ends, and a crashed one never does: poison goes on to the next worker."""
    rewrite("domain.jobs.finish", "_FINISH", "crashes = j.crashes + CAST(d.outcome = 'crashed' AS int)", "crashes = 0")


_BURY = text(
    """
    INSERT INTO dead_letters (id, tenant_id, job_id, kind, fingerprint, cause, snapshot)
    SELECT uuidv7(), tenant_id, id, kind, 'later', 'attempts', '{}' FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))
    """
)


@mutant("every job ends, or is dead for all to see", faults=["mail-refuses", "worker-kill9"])
def letters_are_written_later() -> None:
    """A job is dead in one transaction, and its dead letter written in the next: after a crash nobody hears of it."""
    rewrite("domain.jobs.finish", "_FINISH", "WHERE state = 'dead')", "WHERE state = 'dead' AND false)")
    write = finish._finish

    def write_without_letters(tx: Connection, finishes: Sequence[Finish]) -> list[FinishedJob]:
        finished = write(tx, finishes)
        if dead := [job.id for job in finished if job.state == "dead"]:
            Thread(target=_bury, args=(tx.engine, dead), daemon=True).start()
        return finished

    replace(finish, "_finish", write_without_letters)


def _bury(engine: Engine, dead: list[UUID]) -> None:
    time.sleep(1.0)
    with engine.begin() as tx:
        tx.execute(_BURY, {"ids": dead})


@mutant("work is done once", "accepted is durable, and decided", "mails arrive", faults=["sessions-ended", "links-cut"])
def outage_is_success() -> None:
    """What the database's absence kept a job from doing counts as done."""
    executor = imported("workers.executor")
    for name in ("ending_of_handler", "ending_of_job"):
        replace(executor, name, _forgiving(getattr(executor, name)))


def _forgiving(ending_of: Any) -> Any:
    return lambda error, of: Succeeded() if is_outage(error) else ending_of(error, of)
