"""`longshore chaos` in the small: a few faults, and one seeded bug that it must find."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def chaos(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "ops.cli", "chaos", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(300)
def test_nothing_is_lost_whatever_dies(tmp_path: Path) -> None:
    record = tmp_path / "verdicts.json"
    faults = "worker-kill9,relay-kill9,api-kill9,flushall,sessions-ended,webhook-reply-lost,mail-fails"
    done = chaos("--seed", "7", "--minutes", "0.25", "--faults", faults, "--json", str(record))
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = json.loads(record.read_text())
    assert verdict["accepted"] > 0
    assert verdict["fired"]
    assert verdict["findings"] == []


@pytest.mark.timeout(300)
def test_a_seeded_bug_is_found() -> None:
    faults = "webhook-reply-lost"
    done = chaos("--seed", "1", "--minutes", "0.2", "--faults", faults, "--mutant", "webhook-id-for-each-attempt")
    assert done.returncode == 1
    assert "BROKEN webhooks are genuine" in done.stdout


@pytest.mark.parametrize("flag", ["--faults", "--mutant"])
def test_an_unknown_name_is_a_usage_error(flag: str) -> None:
    done = chaos(flag, "no-such-thing")
    assert done.returncode == 2
    assert "no-such-thing" in done.stderr
