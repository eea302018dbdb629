"""Guards of the product that can be taken away, so that the simulation can show that it would notice."""

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import pytest

from ops.chaos.mutants.graft import rewritten


class Guard(NamedTuple):
    """Pieces of a statement, each with what stands in its place when the guard is gone."""

    module: str
    statement: str
    pieces: Mapping[str, str]


MUTANTS = {
    "a plain success without its fence": Guard(
        "domain.jobs.finish", "_SUCCEED", {"AND claim = :claim AND state = 'running'": "AND :claim > 0"}
    ),
    "a plain success without its claim number": Guard("domain.jobs.finish", "_SUCCEED", {"AND claim = :claim": ""}),
    "a finish without its claim number": Guard(
        "domain.jobs.finish",
        "_FINISH",
        {"ON d.id = j.id AND d.claim = j.claim": "ON d.id = j.id", "j.id = d.id AND j.claim = d.claim": "j.id = d.id"},
    ),
    "a finish of what no longer runs": Guard(
        "domain.jobs.finish", "_FINISH", {"AND j.state = 'running' ORDER BY": "ORDER BY"}
    ),
    "a finish that forgets who asked to stop": Guard(
        "domain.jobs.finish", "_FINISH", {"AND j.cancel_requested_at IS NOT NULL\n": "AND false\n"}
    ),
    "a claim that takes what is not due": Guard(
        "domain.jobs.attempts", "_START", {"(rings > 0 OR due_at <= clock_timestamp())": "true"}
    ),
    "a claim of suspects together with others": Guard("domain.jobs.attempts", "_START", {"AND NOT alone": ""}),
    "a claim of one suspect beside another": Guard(
        "domain.jobs.attempts", "_ALONE", {"AND crashes <= :most_crashes": "AND (crashes <= :most_crashes OR true)"}
    ),
    "a claim without the obligation": Guard(
        "domain.jobs.attempts", "_START", {"ANY(ARRAY(SELECT job_id FROM gone)) AND": "ANY(CAST(:ids AS uuid[])) AND"}
    ),
    "a rescue of those who speak": Guard(
        "domain.jobs.rescue", "_EXPIRED", {"WHERE lease_until < clock_timestamp()": "WHERE true"}
    ),
    "a rescue that does not look at the claim": Guard(
        "domain.jobs.rescue", "_EXPIRED", {"ON j.id = held.id AND j.claim = held.claim": "ON j.id = held.id"}
    ),
    "a cancel that leaves the obligation": Guard(
        "domain.jobs.cancellation", "_CANCEL_WAITING", {"outbox.job_id = cancelled.id": "false"}
    ),
    "a replay without the obligation": Guard(
        "domain.jobs.dead_letters", "_REVIVE", {"lane, due_at FROM revived)": "lane, due_at FROM revived WHERE false)"}
    ),
    "a replay that keeps its crashes": Guard("domain.jobs.dead_letters", "_REVIVE", {"crashes = 0, ": ""}),
}


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The product without this guard, until the test ends. Fails when the guard is written otherwise by now."""
    guard = MUTANTS[name]
    for piece, instead in guard.pieces.items():
        changed = rewritten(guard.module, guard.statement, piece, instead)
        monkeypatch.setattr(import_module(guard.module), guard.statement, changed)
