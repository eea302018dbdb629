"""`longshore chaos` as CI runs it: two minutes of everything, the seeds that are kept, a seeded bug to be found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: One file for each run that broke a promise once: {"seed", "minutes", "faults", "broke"}.
SEEDS = sorted((Path(__file__).parents[1] / "seeds").glob("*.json"))


def chaos(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "ops.cli", "chaos", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=420, check=False)


@pytest.mark.timeout(450)
def test_a_mix_of_two_minutes_breaks_no_promise(tmp_path: Path) -> None:
    record, picture = tmp_path / "verdicts.json", tmp_path / "timeline.svg"
    done = chaos("--seed", "9", "--minutes", "0.75", "--json", str(record), "--chart", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = json.loads(record.read_text())
    assert verdict["accepted"] > 0
    assert verdict["findings"] == []
    met = ("a job was rescued", "a 202 was replayed", "an order found no stock", "a duplicate bell was dropped")
    assert all(verdict["events"][event] for event in met)
    assert all(not buckets["lost"] and not buckets["unexpected"] for buckets in verdict["buckets"].values())
    assert verdict["buckets"]["orders"]["recovered"]
    # How many of all faults fit into the time depends on the machine; that they are a mix does not.
    assert sum(times > 0 for times in verdict["fired"].values()) >= 10
    assert "orders accepted" in picture.read_text()


@pytest.mark.timeout(450)
@pytest.mark.parametrize("file", SEEDS, ids=[file.stem for file in SEEDS])
def test_a_seed_that_broke_a_promise_once_breaks_none_now(file: Path) -> None:
    kept = json.loads(file.read_text())
    words = ["--seed", str(kept["seed"]), "--minutes", str(kept["minutes"]), "--faults", ",".join(kept["faults"])]
    done = chaos(*words)
    assert done.returncode == 0, f"{kept['broke']} again?\n{done.stdout}{done.stderr}"


@pytest.mark.timeout(450)
def test_a_seeded_bug_is_found() -> None:
    # The plan of seed 2 has room for the fault that provokes it
    done = chaos("--seed", "2", "--minutes", "0.1", "--mutant", "webhook-id-for-each-attempt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN webhooks are genuine" in done.stdout
    assert "was caught" in done.stdout


def test_a_series_that_is_told_to_stop_stops_also_when_more_seeds_were_to_come() -> None:
    command = [sys.executable, "-P", "-m", "ops.cli", "chaos", "--runs", "9"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as series:
        assert series.stderr is not None
        assert "seed 1 starts" in series.stderr.readline()
        series.terminate()
        try:
            assert series.wait(60) == 130
        finally:
            series.kill()


@pytest.mark.parametrize("flag", ["--faults", "--mutant"])
def test_an_unknown_name_is_a_usage_error(flag: str) -> None:
    done = chaos(flag, "no-such-thing")
    assert done.returncode == 2
    assert "no-such-thing" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--recovery", "--faults", "flushall"),
        ("--recovery", "--mutant", "all"),
        ("--recovery", "--seed", "7"),
        ("--recovery", "--at-once", "4"),
        ("--mutant", "all", "--runs", "3"),
        ("--json", "no/such/folder/verdicts.json"),
    ],
)
def test_what_would_be_ignored_or_could_not_be_written_is_refused_before_anything_runs(words: tuple[str, ...]) -> None:
    done = chaos(*words)
    assert done.returncode == 2
    assert "no/such/folder" in done.stderr or "does not go with" in done.stderr
