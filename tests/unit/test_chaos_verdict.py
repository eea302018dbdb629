"""What runs showed: counted over seeds, told in words, drawn in time."""

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from ops.chaos.judges import Finding
from ops.chaos.report import summary, totals
from ops.chaos.timeline import svg
from ops.chaos.verdict import Struck, Verdict, per_second, tally_of

HELD = Verdict(
    seed=7,
    mutant="",
    load_seconds=60.0,
    findings=[],
    fired={"flushall": 2, "worker-kill9": 0},
    timeline=[Struck("flushall", 1.0, 0.2, 1), Struck("worker-kill9", 3.0, 0.0), Struck("flushall", 9.0, 0.2, 1)],
    accepted=1_200,
    refused=0,
    resolved=3,
    statuses={},
    events={"a job was rescued": 0, "a job was dead": 4},
    up_after_s=1.0,
    quiet_after_s=2.0,
    accepted_per_s=[10, 0, 20],
    ended_per_s=[5, 40, 0, 1],
)
BROKEN = msgspec.structs.replace(HELD, seed=8, findings=[Finding("stock is conserved", "SKU & <more>")])


def elements(document: str, kind: str) -> "list[Any]":
    return ET.fromstring(document).findall(f"{{http://www.w3.org/2000/svg}}{kind}")  # noqa: S314  # our own


def test_what_never_took_effect_is_named() -> None:
    assert HELD.unproved == ["worker-kill9", "a job was rescued"]
    assert "proved nothing about: worker-kill9, a job was rescued" in summary(HELD)


def test_a_broken_promise_stands_in_the_words_and_a_kept_one_is_said() -> None:
    assert "BROKEN stock is conserved: SKU & <more>" in summary(BROKEN)
    assert "every promise held" not in summary(BROKEN)
    assert "every promise held" in summary(HELD)


def test_a_run_in_which_hardly_anything_was_accepted_or_no_fault_took_effect_proves_nothing() -> None:
    idle = msgspec.structs.replace(HELD, fired={"flushall": 0})
    for verdict in (idle, msgspec.structs.replace(HELD, accepted=49)):
        assert verdict.proved_nothing
        assert "nothing was proved" in summary(verdict)
    assert not msgspec.structs.replace(HELD, accepted=50).proved_nothing
    assert not HELD.proved_nothing
    assert not msgspec.structs.replace(HELD, fired={}).proved_nothing


def test_many_runs_are_added_up_by_fault_and_by_event() -> None:
    tally = tally_of([HELD, BROKEN], void=1)
    assert (tally.seeds, tally.void, tally.accepted, tally.findings) == (2, 1, 2_400, 1)
    assert tally.fired == {"flushall": (2, 4), "worker-kill9": (0, 0)}
    assert tally.events == {"a job was dead": (2, 8), "a job was rescued": (0, 0)}
    assert "| flushall | 2 | 4 |" in totals(tally)
    assert "1 broken promises, 1 seeds void" in totals(tally)


def test_moments_are_counted_by_whole_seconds_from_zero() -> None:
    assert per_second([0.1, 2.0, 2.9, -1.0]) == [1, 0, 2]
    assert per_second([]) == []


def test_the_picture_has_each_fault_in_its_time_and_tells_those_that_did_nothing() -> None:
    document = svg([HELD, BROKEN])
    shades = [element.get("class") for element in elements(document, "rect")]
    assert shades == ["fault", "fault", "idle"] * 2
    first, again = (float(element.get("x")) for element in elements(document, "rect")[:2])
    assert first < again
    assert len(elements(document, "polyline")) == 2
    assert any("broken: stock is conserved" in (element.text or "") for element in elements(document, "text"))


def test_all_is_healed_when_the_last_fault_is_and_never_before_the_load_had_its_time() -> None:
    assert HELD.healed_s == 60.0
    late = msgspec.structs.replace(HELD, timeline=[Struck("replay-storm", 55.0, 38.0, 1)])
    assert late.healed_s == 93.0
    (line,) = (
        float(element.get("x1")) for element in elements(svg([late]), "line") if element.get("class") == "healed"
    )
    (bar,) = elements(svg([late]), "rect")
    assert line == pytest.approx(float(bar.get("x")) + float(bar.get("width")), abs=0.2)
    assert msgspec.structs.replace(HELD, timeline=[]).healed_s == 60.0


def test_a_run_of_which_nothing_is_known_can_be_drawn() -> None:
    empty = msgspec.structs.replace(HELD, accepted_per_s=[], ended_per_s=[], timeline=[])
    assert elements(svg([empty]), "polygon")
