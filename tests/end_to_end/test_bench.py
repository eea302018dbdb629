"""`longshore bench` in the small: real servers and processes, few jobs. What it measures is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.bench.fleet import Fleet, fleet
from ops.bench.shop import Shop

JOBS = 200


def bench(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "ops.cli", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_an_unknown_figure_is_a_usage_error_that_names_the_known_ones() -> None:
    done = bench("--only", "speed")
    assert done.returncode == 2
    assert "noop" in done.stderr


def test_the_no_ops_are_measured_recorded_and_drawn(tmp_path: Path) -> None:
    # When the smallest run is made
    record, chart = tmp_path / "record.json", tmp_path / "chart.svg"
    files = ("--json", str(record), "--chart", str(chart))
    done = bench("--only", "noop", "--no-peers", "--jobs", str(JOBS), "--repeats", "1", *files)
    # Then it says what was measured, with nothing lost and nothing run twice
    assert done.returncode == 0, done.stderr
    assert "synchronous_commit=on" in done.stdout
    figure = json.loads(record.read_text())["figures"][0]
    row = figure["rows"][0]
    assert (row["system"], row["jobs"], row["lost"], row["twice"]) == ("longshore", JOBS, 0, 0)
    assert row["jobs/s"]["median"] > 0
    assert row["settled/s"]["median"] > 0
    assert "postgresql" in figure["notes"][0]
    assert "longshore" in chart.read_text()


@pytest.mark.parametrize("floor", [None, "no-database", "one-transaction-each"])
def test_the_intake_and_its_floors_answer_the_same_callers(floor: str | None) -> None:
    with fleet() as running:
        shop = Shop(running)
        shop.open() if floor is None else shop.open_floor(floor)
        answered = shop.post(shop.products(2), seconds=20.0, warm_up_s=0.0, most=100)
        assert answered.statuses == {202: 100}
        assert running.ask("SELECT count(*) FROM orders") == (0 if floor == "no-database" else 100)
        pids = running.pids
    assert not_running(running, pids)


def not_running(running: Fleet, pids: dict[str, int]) -> bool:
    """Whether the fleet and its servers left nothing behind."""
    return running.pids == {} and not any(Path(f"/proc/{pid}").exists() for pid in pids.values() if pid != os.getpid())
