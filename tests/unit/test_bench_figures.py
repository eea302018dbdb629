"""What the benchmark makes of its measurements: rates, losses, spreads, verdicts, tables, charts, records. All pure."""

import ast
import json
import os
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ops.bench
from domain.jobs.kind import KINDS
from ops.bench.chart import panels, svg
from ops.bench.client import mark as marking
from ops.bench.cost import Others, cpu_seconds, memory_mib
from ops.bench.figure import Figure, Goal, Run
from ops.bench.figures import FIGURES
from ops.bench.machine import Machine, in_words
from ops.bench.record import document, write_record
from ops.bench.recovery import Kill, longest_wait, re_runs
from ops.bench.series import waits
from ops.bench.sink import Sink, drained
from ops.bench.spread import percentile, spread
from ops.bench.words import cell, headings, missed, number, verdict

HERE = Machine(
    cores=2,
    cpu="a CPU",
    memory_mib=1024,
    load=0.5,
    system="Linux",
    measured_at=datetime(2026, 1, 31, tzinfo=UTC),
    versions={"longshore": "1.0"},
    postgresql=dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "wal_compression", "jit"), "on")
    | {"shared_buffers": "256MB", "max_wal_size": "2GB"},
    valkey={},
    longshore={},
)
RUN = Run(jobs=100, repeats=3, quick=False, peers=True, say=lambda _: None)
FIGURE = Figure(
    "noop",
    "Jobs per second",
    [
        {"system": "a & b", "jobs/s": spread([10.0, 30.0, 20.0]), "kept": "nothing"},
        {"system": "longshore", "jobs/s": spread([40.0]), "kept": "state", "CPU us/job": 89.64},
        {"system": "absent", "jobs": "not measured"},
    ],
    [Goal("faster than a & b", 2.0, 1.5), Goal("wait", 9.0, 5.0, at_most=True)],
    ["a note"],
    chart="jobs/s",
)


def test_a_spread_is_the_median_with_its_range() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.least, found.most, found.values) == (2.0, 1.0, 3.0, [3.0, 1.0, 2.0])


def test_of_nothing_there_is_no_spread_and_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 50)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_a_rate_counts_from_the_first_start_to_the_last() -> None:
    found = drained([(0.0, 5.0), (1.0, 5.5), (2.0, 6.0)], 3)
    assert (found.jobs_per_s, found.lost, found.twice) == (2.0, 0, 0)


def test_lost_and_doubled_jobs_are_counted() -> None:
    found = drained([(0.0, 1.0), (0.0, 2.0), (2.0, 3.0)], 4)
    assert (found.ran, found.lost, found.twice) == (2, 2, 1)


def test_a_drain_without_a_single_start_is_an_error() -> None:
    with pytest.raises(ValueError, match="no job ran"):
        drained([], 3)


def test_the_sink_reads_whole_marks_only_and_is_gone_at_the_end() -> None:
    with Sink() as sink:
        sink.path.write_bytes(struct.pack("<dddd", 1.0, 2.0, 3.0, 4.0) + b"torn")
        assert sink.marks() == [(1.0, 2.0), (3.0, 4.0)]
        assert sink.count() == 2
        sink.clear()
        assert sink.wait_for(1, limit_s=0.0) == 0
    assert not sink.path.exists()


def test_a_producer_fills_and_sends_in_series_and_tells_when(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import time\nfrom mark import mark\nfrom producer import produce\n"
        "async def send(number):\n    mark(number)\n"
        "async def before():\n    mark(-1.0)\n"
        "produce(send, before=before)\n"
    )
    client = Path(marking.__file__).parent
    with Sink() as sink:
        environ = {"PYTHONPATH": str(client), marking.SINK: str(sink.path)}

        def produced(*words: str) -> object:
            command = [sys.executable, str(script), *words]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=True)
            return json.loads(done.stdout)

        assert produced("fill", "3") == {}
        assert [number for number, _ in sink.marks()] == [-1.0, 0.0, 1.0, 2.0]
        sink.clear()
        sent = produced("series", "2", "0.01")
        assert isinstance(sent, list)
        assert [number for number, _ in sink.marks()] == [-1.0, sent[0][0], sent[1][0]]
        assert all(before <= after for before, after in sent)


def test_waits_count_from_the_call_and_from_its_return() -> None:
    found = waits([(1.0, 1.002), (2.0, 2.001)], [(2.0, 2.004), (1.0, 1.003)])
    assert found.from_call == pytest.approx([4.0, 3.0])
    assert found.from_return == pytest.approx([3.0, 1.0])


def test_a_re_run_counts_from_its_kill_to_the_next_start() -> None:
    # Given a job that two kills hit, one that only the second did, and one that died of it
    killed = [Kill(10.0, [1.0]), Kill(20.0, [1.0, 2.0, 3.0])]
    marks = [(1.0, 9.0), (1.0, 18.0), (1.0, 28.5), (2.0, 19.0), (2.0, 29.0), (3.0, 19.5)]
    # Then each kill has its own delay, and what never started again has none
    assert re_runs(marks, killed) == [8.0, 8.5, 9.0]


def test_the_longest_wait_is_to_the_first_start() -> None:
    assert longest_wait([1.0, 2.0], [(0.0, 9.0), (0.0, 1.5), (1.0, 3.0)]) == 1.0


def test_the_cost_of_a_process_is_seen() -> None:
    before = cpu_seconds({"me": os.getpid()})["me"]
    sum(number * number for number in range(300_000))
    assert cpu_seconds({"me": os.getpid()})["me"] > before
    assert memory_mib({"me": os.getpid()})["me"] > 1.0
    assert cpu_seconds({"nobody": 2**22 + 1}) == {"nobody": 0.0}


def test_what_we_use_ourselves_is_not_put_down_to_others() -> None:
    # Given processes of ours that keep every core busy that they can get
    burn = [sys.executable, "-c", "import time\nuntil = time.monotonic() + 0.5\nwhile time.monotonic() < until: pass"]
    busy = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    others = Others()
    for process in busy:
        process.wait(30)
    # Then what they took, their ends included, is not among what others took
    assert 0.0 <= others.share() < 0.9


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0"), (3.0, "3"), (-0.5, "-0.50")],
)
def test_numbers_are_shown_with_the_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_cell_shows_the_range_only_where_there_is_one() -> None:
    assert cell(spread([10.0, 20.0, 1000.0])) == "20 (10-1,000)"
    assert cell(spread([10.0])) == "10"
    assert [cell(None), cell("words"), cell(0.25)] == ["-", "words", "0.25"]


def test_every_heading_is_shown_once() -> None:
    assert headings(FIGURE) == ["system", "jobs/s", "kept", "CPU us/job", "jobs"]


def test_a_goal_is_met_or_missed_in_words() -> None:
    assert [goal.is_met for goal in FIGURE.goals] == [True, False]
    assert verdict(FIGURE.goals[0]) == "met     faster than a & b: 2 (at least 1.50)"
    assert verdict(FIGURE.goals[1]) == "MISSED  wait: 9 (at most 5)"
    assert missed([FIGURE]) == ["noop"]


def test_the_chart_is_well_formed_and_draws_what_was_measured() -> None:
    drawn = svg(panels([FIGURE]), "2 cores < 4")
    root = ET.fromstring(drawn)  # noqa: S314  # our own
    svg_name = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{svg_name}rect")]
    words = "".join(root.itertext())
    assert widths == [270.0, 135.0]  # largest first; what was not measured has no bar
    assert "a & b" in words
    assert "keeps state" in words
    assert "absent" not in words
    assert "prefers-color-scheme: dark" in words


def test_figures_without_a_chart_are_not_drawn() -> None:
    assert panels([Figure("orders", "Whole orders", FIGURE.rows, [])]) == []


def test_the_record_says_where_how_and_what(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, HERE, RUN, [FIGURE], {"kills": "no kill hit a job"})
    found = json.loads(path.read_text())
    assert found["machine"]["cores"] == 2
    assert found["run"] == {"jobs": 100, "repeats": 3, "quick": False, "peers": True}
    assert found["figures"][0]["rows"][0]["jobs/s"]["values"] == [10.0, 30.0, 20.0]
    assert found["figures"][0]["goals"][1] == {"promise": "wait", "measured": 9.0, "atMost": 5.0, "met": False}
    assert found["failed"] == {"kills": "no kill hit a job"}
    assert set(document(HERE, RUN, [], {})) == set(found)


def test_the_head_of_the_table_tells_the_durability() -> None:
    assert "synchronous_commit=on" in in_words(HERE)[2]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_function_in_its_module(name: str) -> None:
    tree = ast.parse((Path(ops.bench.__file__).parent / f"{name}.py").read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name] == [name]


def test_the_product_does_not_know_the_kinds_of_the_benchmark() -> None:
    assert [name for name in KINDS if name.startswith("bench.")] == []
