"""Seeded bugs of the way from the outbox to a worker that starts the job."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.due import DueRows, FlowKey, due_rows
from domain.jobs.rescue import Mended
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite
from workers.flow_ringer import FlowRinger
from workers.flows import Ring

_FORGET = text("DELETE FROM outbox WHERE job_id = ANY(CAST(:ids AS uuid[]))")


@mutant("liveness", faults=["flushall", "workers-die", "valkey-kill9"])
def rung_rows_are_gone() -> None:
    """The relay deletes a row when it rings it, a bell alone starts its job, and nobody looks for what was lost."""
    ring = FlowRinger._ring

    def ring_and_forget(self: FlowRinger, *how: Any) -> list[str]:
        rung = ring(self, *how)
        self._connection.execute(_FORGET, {"ids": rung})
        return rung

    replace(FlowRinger, "_ring", ring_and_forget)
    rewrite("domain.jobs.attempts", "_START", "ARRAY(SELECT job_id FROM gone)", "CAST(:ids AS uuid[])")
    replace(imported("workers.rescuer"), "mend_unheld", lambda *_: Mended(0, 0, None))


@mutant("liveness", faults=["workers-die", "flushall", "valkey-replies-lost"])
def rows_ring_once() -> None:
    """What was rung and not claimed never rings again."""
    replace(Ring, "is_over", lambda *_, **__: False)
    rewrite("domain.jobs.due", "_RING_IN_LANES", "make_interval(secs =>", "make_interval(years => 1, secs =>")


@mutant("liveness")
def relay_reads_on_from_the_last_id() -> None:
    """The relay goes on after the highest id it has read: a transaction that commits late is never read."""
    last: dict[FlowKey, str] = defaultdict(str)
    seen: dict[FlowKey, set[str]] = defaultdict(set)

    def after_the_last(flow: FlowKey, ids: Sequence[str]) -> list[str]:
        found = [job_id for job_id in ids if job_id > last[flow] or job_id in seen[flow]]
        seen[flow].update(found)
        return found

    def read_on(
        connection: Connection, flows: Sequence[FlowKey], since: Sequence[datetime], limits: Sequence[int]
    ) -> list[DueRows]:
        read = []
        for flow, rows in zip(flows, due_rows(connection, flows, since, limits), strict=True):
            together, alone = after_the_last(flow, rows.together), after_the_last(flow, rows.alone)
            last[flow] = max([last[flow], *together, *alone])
            read.append(msgspec.structs.replace(rows, together=together, alone=alone))
        return read

    replace(imported("workers.flow_ringer"), "due_rows", read_on)
    replace(FlowRinger, "ring_hinted", lambda *_: [])


@mutant("work is done once", "attempts follow one another", faults=["forged-bells"])
def bell_is_an_order() -> None:
    """Whoever hears a bell starts its jobs, also those that are running or done."""
    rewrite("domain.jobs.attempts", "_START", "ARRAY(SELECT job_id FROM gone)", "CAST(:ids AS uuid[])")
    rewrite("domain.jobs.attempts", "_START", "AND state IN ('scheduled', 'queued', 'retrying')", "")
