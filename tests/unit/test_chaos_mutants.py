"""Every seeded bug still fits onto the product as it is today, and changes it."""

import json
import subprocess
import sys
from collections.abc import Sequence

import msgspec
import pytest

import ops.chaos.checker  # noqa: F401  # declares the judges
from ops.chaos.catalogue import every_fault
from ops.chaos.judges import JUDGES, Finding
from ops.chaos.kill_table import Kill, caught_by, hunt, table
from ops.chaos.mutants import MUTANTS, Mutant
from ops.chaos.mutants.graft import replace, rewrite
from ops.chaos.system import ChaosFailed
from ops.chaos.verdict import Verdict

PROMISES = {promise for promise, _ in JUDGES} | {"liveness"}

#: Loads the product once, and grafts each mutant onto a process of its own: what it changed, or why it did not fit.
GRAFT_EACH = """
import json
import os
import sys

from sqlalchemy import TextClause

import api.app
import domain.job_kinds
import workers.relay
import workers.rescuer
import workers.worker
from ops.chaos.mutants import MUTANTS

def seen(value):
    return value.text if isinstance(value, TextClause) else dict(vars(value)) if isinstance(value, type) else value

def product():
    return {
        f"{module}.{name}": seen(value)
        for module, loaded in list(sys.modules.items()) if module.partition(".")[0] in {"api", "domain", "workers"}
        for name, value in list(vars(loaded).items()) if not name.startswith("__")
    }

def changed_by(graft):
    before = product()
    graft()
    after = product()
    return [place for place, was in before.items() if after[place] is not was and after[place] != was]

for name, graft in [("nothing", lambda: None), *((name, one.graft) for name, one in MUTANTS.items())]:
    if os.fork():
        os.wait()
        continue
    try:
        changed, problem = changed_by(graft), ""
    except Exception as error:
        changed, problem = [], repr(error)
    print(json.dumps([name, changed, problem]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def grafted() -> dict[str, tuple[list[str], str]]:
    """By mutant: the places that it changed, and what went wrong."""
    done = subprocess.run([sys.executable, "-P", "-c", GRAFT_EACH], capture_output=True, text=True, check=True)
    return {name: (changed, problem) for name, changed, problem in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fits_and_changes_the_product(name: str, grafted: dict[str, tuple[list[str], str]]) -> None:
    changed, problem = grafted[name]
    assert not problem
    assert changed


def test_what_changes_nothing_is_seen_to_change_nothing(grafted: dict[str, tuple[list[str], str]]) -> None:
    assert grafted["nothing"] == ([], "")


@pytest.mark.parametrize("one", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_says_what_it_breaks_and_what_provokes_it(one: Mutant) -> None:
    assert one.summary
    assert one.breaks
    assert set(one.breaks) <= PROMISES
    assert set(one.faults) <= set(every_fault())


def test_a_place_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match="made anew"):
        rewrite("domain.jobs.rescue", "_EXPIRED", "what it never said", "")
    with pytest.raises(ValueError, match="made anew"):
        replace(Mutant, "no_such_name", str)


STUCK = Mutant("stuck", "It hangs.", (), ("liveness",), lambda: None)
HANGS, LOSES = Finding("liveness", "it hangs"), Finding("mails arrive", "no mail")


def verdict(*findings: Finding) -> Verdict:
    return Verdict(
        seed=1, mutant="stuck", load_seconds=1.0, findings=list(findings), fired={}, timeline=[], accepted=1, refused=0,
        resolved=0, statuses={}, events={}, up_after_s=0.0, quiet_after_s=0.0, accepted_per_s=[], ended_per_s=[],
    )  # fmt: skip


def hunted(*runs: Verdict | ChaosFailed) -> Kill:
    left = iter(runs)
    return hunt(STUCK, range(len(runs)), lambda _seed, _one: next(left))


def test_only_a_promise_that_a_mutant_breaks_catches_it() -> None:
    assert caught_by(STUCK, [LOSES, HANGS]) == HANGS
    assert caught_by(STUCK, [LOSES]) is None
    assert caught_by(msgspec.structs.replace(STUCK, breaks=("mails arrive", "liveness")), [HANGS, LOSES]) == LOSES


@pytest.mark.parametrize(
    ("runs", "seeds", "void"),
    [
        ([verdict(HANGS)], 1, 0),
        ([verdict(), verdict(LOSES), verdict(HANGS), verdict()], 3, 0),
        ([ChaosFailed("no port"), verdict(HANGS)], 2, 1),
    ],
)
def test_a_mutant_is_hunted_until_it_is_caught(runs: Sequence[Verdict | ChaosFailed], seeds: int, void: int) -> None:
    kill = hunted(*runs)
    assert kill.is_caught
    assert (kill.seeds, kill.void, kill.promise, kill.finding) == (seeds, void, "liveness", "it hangs")


def test_what_cannot_be_carried_out_catches_nothing() -> None:
    kill = hunted(ChaosFailed("no port"), verdict(LOSES))
    assert not kill.is_caught
    assert "**not caught**" in table([kill])
