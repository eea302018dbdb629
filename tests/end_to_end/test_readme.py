"""The quick start of the README works when pasted, line by line, into a shell beside a running system."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.end_to_end.running import Running

ROOT = Path(__file__).parents[2]


def quick_start() -> str:
    """The shell blocks of the README's quick start, in order."""
    section = (ROOT / "README.md").read_text().split("## Quick start")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def test_the_quick_start_works_when_pasted(system: Running) -> None:
    # Given the folder that `make up` was typed in, as the README has it
    folder = system.data.parent
    (folder / ".longshore").symlink_to(system.data)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # When its lines are pasted into a shell that stops at the first failure
    script = f"set -euo pipefail; shopt -s expand_aliases\n{quick_start()}"
    done = subprocess.run(
        [shutil.which("bash") or "/bin/bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # Then each did what the text around it says
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert '"status": "confirmed"' in done.stdout  # the order
    assert '"outcome": "succeeded"' in done.stdout  # its timeline
    assert "is confirmed" in done.stdout  # the mail's subject
    assert '"verified": true' in done.stdout  # the webhook
    assert "orderId,createdAt,status" in done.stdout  # the report
    assert "inventory.reserve" in done.stdout  # the operators' command line
