"""`longshore chaos --recovery` in the small: each thing dies at least once. How long it takes is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from domain.jobs.attempts import LEASE_S, RENEW_EVERY_S


@pytest.mark.timeout(240)
def test_every_recovery_is_measured_and_held_against_its_goal(tmp_path: Path) -> None:
    record = tmp_path / "recovery.json"
    command = [sys.executable, "-P", "-m", "ops.cli", "chaos", "--recovery", "--minutes", "0.1", "--json", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    # Then every part has its figures, and the exit code is that of its goals
    assert record.exists(), done.stdout + done.stderr
    found = json.loads(record.read_text())
    assert done.returncode == (0 if all(goal["met"] for goal in found["goals"]) else 1), done.stdout + done.stderr
    rows = {row["what"].split(",")[0].split(":")[0]: row for row in found["rows"]}
    assert {"relay kill -9", "no kill", "PostgreSQL kill -9", "FLUSHALL to every due job started"} <= set(rows)
    assert all(row["measured"] > 0 and 0 < row["p50 s"] <= row["most s"] for row in found["rows"])
    # And what a killed worker held came back when its lease was over, and not before
    assert rows["worker kill -9 to the next start of its jobs"]["p50 s"] > LEASE_S - RENEW_EVERY_S - 1
