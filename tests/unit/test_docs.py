"""The pages under docs/ say what the code says: names, tables, examples and commands are held against it."""

import ast
import csv
import json
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import Counter, Gauge, Histogram
from typer.main import get_command

import ops.chaos.checker  # declares the judges
import ops.telemetry
from api.envelope import CODES
from domain.event_types import EVENT_TYPES
from domain.job_kinds import WEBHOOK_TIMETABLE
from domain.jobs.state_machine import MOVES
from domain.tenants.permission_rules import PERMISSIONS, ROLES, SCOPES
from domain.webhooks.cloud_event import encode_event
from domain.webhooks.signature_rules import message_id, secret_bytes, signed_headers
from ops.chaos.catalogue import every_fault
from ops.chaos.judges import JUDGES
from ops.chaos.mutants import MUTANTS
from ops.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = sorted(DOCS.rglob("*.md"))
FOLDERS = ("api", "domain", "ops", "workers")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANY_ID = "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"

Verify = Callable[[str, Mapping[str, str], bytes], str]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins with the column `first`."""
    table = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-:|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, f"no table of {first}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[1].splitlines()]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_one_short_page_of_four_parts(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 50
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_every_fault_of_chaos_is_there_with_what_it_does() -> None:
    expected = [[one.id, f"`{one.name}`", one.summary] for one in every_fault().values()]
    assert rows(page("chaos.md"), "number") == expected


PROMISES = {promise for promise, _ in JUDGES} | {"liveness"}


def test_every_promise_that_is_judged_is_there() -> None:
    assert {cells[0] for cells in rows(page("chaos.md"), "promise")} == PROMISES


@pytest.mark.parametrize("path", ["README.md", "CHANGELOG.md", "docs/reliability.md"])
def test_whoever_counts_faults_promises_and_mutants_counts_right(path: str) -> None:
    text = (ROOT / path).read_text()
    told = {(what, int(number)) for number, what in re.findall(r"\b(\d+) (ways|promises|mutants)\b(?! more)", text)}
    assert told
    assert told <= {("ways", len(every_fault())), ("promises", len(PROMISES)), ("mutants", len(MUTANTS))}


def test_the_figures_of_200_seeds_are_those_of_each_seed() -> None:
    with (DOCS / "chaos-seeds.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [run["seed"] for run in runs] == [str(seed) for seed in range(1, 201)]
    assert {run["promises broken"] for run in runs} == {"0"}
    assert f"{sum(int(run['orders accepted']) for run in runs):,} orders\naccepted" in page("reliability.md")


def test_every_mutant_is_there_with_what_is_wrong_and_a_promise_that_it_breaks() -> None:
    shown = rows(page("mutants.md"), "mutant")
    expected = sorted((f"`{one.name}`", one.summary) for one in MUTANTS.values())
    assert sorted((name, summary) for name, summary, *_ in shown) == expected
    assert [name for name, _, _, fell in shown if fell not in MUTANTS[name.strip("`")].breaks] == []


def test_the_promises_that_no_mutant_breaks_are_named() -> None:
    broken = {promise for one in MUTANTS.values() for promise in one.breaks}
    sentence = page("mutants.md").split("No mutant breaks these")[1].split(".")[0]
    told = {re.sub(r"\s+", " ", name) for name in re.findall(r'"([^"]+)"', sentence)}
    assert told == {promise for promise, _ in JUDGES} - broken


def test_the_codes_of_errors_are_all_there() -> None:
    expected = [
        [f"`{name}`", str(code.status), "yes" if code.retryable else "no", code.title]
        for name, code in sorted(CODES.items())
    ]
    assert rows(page("errors.md"), "code") == expected


def test_the_codes_of_details_are_all_there() -> None:
    used = {"INVALID"}
    for path in [*(ROOT / "api").rglob("*.py"), *(ROOT / "domain").rglob("*.py")]:
        used |= set(re.findall(r'Violation\(.*"([A-Z_]{4,})"\)', path.read_text()))
    assert {cells[0].strip("`") for cells in rows(page("errors.md"), "detail")} == used
    assert {"UNKNOWN_SKU", "OUT_OF_RANGE"} <= used


def test_the_permissions_of_scopes_and_roles_are_all_there() -> None:
    expected = [
        [
            f"`{one}`",
            ", ".join(f"`{scope}`" for scope in SCOPES if one in SCOPES[scope]) or "-",
            ", ".join(role for role in ROLES if one in ROLES[role]),
        ]
        for one in sorted(PERMISSIONS)
    ]
    assert rows(page("operations.md"), "permission") == expected


def test_the_metrics_are_all_there() -> None:
    assert rows(page("operations.md"), "metric") == [_metric_row(metric) for metric in _metrics()]


MEASURES = (Counter, Gauge, Histogram, ops.telemetry.BatchHistogram)


def _metrics() -> list[Any]:
    return [metric for metric in vars(ops.telemetry).values() if isinstance(metric, MEASURES)]


def _metric_row(metric: Any) -> list[str]:
    kind = "histogram" if isinstance(metric, ops.telemetry.BatchHistogram) else type(metric).__name__.lower()
    names = [metric._label] if isinstance(metric, ops.telemetry.BatchHistogram) else metric._labelnames
    labels = ", ".join(f"`{label}`" for label in names) or "-"
    return [f"`{metric._name}{'_total' if kind == 'counter' else ''}`", kind, labels, metric._documentation]


def test_the_alerts_name_metrics_that_exist() -> None:
    known = {_metric_row(metric)[0].strip("`") for metric in _metrics()}
    alerts = " ".join(row[0] for row in rows(page("operations.md"), "when"))
    assert set(re.findall(r"\b(?:longshore|http)_[a-z_]+", alerts)) <= known


def test_the_schedule_of_webhooks_is_that_of_the_kind() -> None:
    seconds = {"s": 1, "min": 60, "h": 3600}
    waits = [cells[1] for cells in rows(page("webhooks-for-subscribers.md"), "attempt")]
    assert waits[0] == "none"
    told = [float(number) * seconds[unit] for number, unit in (wait.split() for wait in waits[1:])]
    assert tuple(told) == WEBHOOK_TIMETABLE.waits


def test_the_events_are_all_there() -> None:
    told = {cells[0].strip("`") for cells in rows(page("webhooks-for-subscribers.md"), "event")}
    assert told == set(EVENT_TYPES)


def example() -> tuple[dict[str, str], bytes]:
    """The request shown to subscribers: its headers, and its body as it would arrive."""
    text = page("webhooks-for-subscribers.md")
    headers = dict(line.split(": ", 1) for line in blocks(text, "")[0].splitlines())
    shown = json.loads(blocks(text, "json")[0])
    return headers, json.dumps(shown, separators=(",", ":")).encode()


def test_the_example_is_what_would_be_sent() -> None:
    headers, body = example()
    shown = json.loads(body)
    event = SimpleNamespace(
        id=UUID(shown["id"]),
        tenant_id=UUID(shown["source"].split("/")[2]),
        type=shown["type"],
        version=1,
        subject=UUID(shown["subject"]),
        sequence=int(shown["sequence"]),
        occurred_at=datetime.fromisoformat(shown["time"]),
        data=shown["data"],
    )
    sent: Any = event
    assert encode_event(sent) == body
    sent_at_ms = int(headers["x-webhook-timestamp"])
    signed = signed_headers([secret_bytes(SECRET)], message_id(event.id), sent_at_ms, body, event.type)
    assert {name.lower(): value for name, value in signed.items()}.items() <= headers.items()
    assert SECRET in page("webhooks-for-subscribers.md")


def verify_in_python(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    names: dict[str, Any] = {}
    exec(blocks(page("webhooks-for-subscribers.md"), "python")[0], names)  # noqa: S102  # our own page
    verified: str = names["verify"](secret, headers, body)
    return verified


def verify_in_javascript(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    call = f"process.stdout.write(verify({json.dumps(secret)}, {json.dumps(headers)}, Buffer.from({list(body)})))"
    script = blocks(page("webhooks-for-subscribers.md"), "js")[0] + call
    command = [node, "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


@pytest.mark.parametrize("verify", [verify_in_python, verify_in_javascript])
def test_the_verifiers_shown_tell_genuine_from_forged(verify: Verify) -> None:
    body, now_ms = example()[1], time.time_ns() // 1_000_000
    newer = bytes(32)
    genuine = signed_headers([newer, secret_bytes(SECRET)], "msg_1", now_ms, body, "order.confirmed")
    stale = signed_headers([secret_bytes(SECRET)], "msg_1", now_ms - 301_000, body, "order.confirmed")
    assert verify(SECRET, genuine, body) == "msg_1"
    for headers, sent in [
        (genuine, body + b" "),
        (stale, body),
        ({**genuine, "webhook-id": "msg_2"}, body),
        ({}, body),
    ]:
        with pytest.raises(ValueError, match=r"no signature fits|too far off"):
            verify(SECRET, headers, sent)


def test_the_moves_of_a_job_are_those_of_the_state_machine() -> None:
    drawn = {(before, after) for before, after in _arrows("running --> succeeded") if before != "[*]"}
    assert drawn == {(str(before), str(after)) for before, afters in MOVES.items() for after in afters}


def _arrows(of: str) -> list[tuple[str, str]]:
    diagram = next(block for block in blocks(page("architecture.md"), "mermaid") if of in block)
    return re.findall(r"^\s+(\S+) --> (\w+)", diagram, re.MULTILINE)


def test_the_house_is_as_drawn() -> None:
    top, missing = "", []
    for line in blocks(page("architecture.md"), "")[0].splitlines():
        indented, words = line.startswith(" "), re.split(r"\s{2,}", line.strip())
        names = re.findall(r"[\w./]+(?:\.py|/)", f"{words[0]} {words[1]}" if len(words) > 2 else words[0])
        top = top if indented else names[0]
        missing += [top + name for name in (names if indented else [""]) if not (ROOT / top / name).exists()]
    assert missing == []


#: `workers/relay.py: Relay.turn`, with more names of the same file behind it or none.
_CODE = re.compile(r"`((?:api|domain|workers|ops|migrations|tests)/[\w./]*)(?:: ([\w.]+))?`((?:, `[\w.]+`(?!/))*)")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_names_that_are_mentioned_exist(path: Path) -> None:
    missing = []
    for file, name, more in _CODE.findall(path.read_text()):
        names = [name, *re.findall(r"`([\w.]+)`", more)] if name else []
        if not (ROOT / file).exists() and not any(ROOT.glob(f"{file}*")):
            missing.append(file)
        missing += [f"{file}: {one}" for one in names if not set(one.split(".")) <= _defined(ROOT / file)]
    assert missing == []


def _defined(path: Path) -> set[str]:
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, definitions)}


def test_the_places_of_commits_are_listed() -> None:
    table = page("decisions/0003-where-commits-happen.md")
    listed = tuple(file for file, _, _ in _CODE.findall(table))
    assert [module for module in _committing() if not module.startswith(listed)] == []
    assert [module for module in _committing() if module.startswith("domain/")] == []


def _committing() -> Iterator[str]:
    """Modules that begin a transaction, commit one, or open an autocommit connection."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if re.search(r"\.begin\(\)|\.commit\(\)|AUTOCOMMIT", path.read_text()):
                yield str(path.relative_to(ROOT))


def test_the_dependencies_are_all_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert {cells[0] for cells in rows(page("decisions/0013-dependencies.md"), "library")} == declared


def commands() -> list[str]:
    return [
        line
        for path in [ROOT / "README.md", *PAGES]
        for block in blocks(path.read_text(), "sh")
        for line in block.splitlines()
        if line.startswith("longshore ")
    ]


@pytest.mark.parametrize("line", commands())
def test_the_commands_shown_are_understood(line: str) -> None:
    words = shlex.split(re.sub(r"\$[A-Z_]+", ANY_ID, line), comments=True)[1:]
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises for an option or a value that it does not take
    assert not (words and hasattr(command, "commands")), f"there is no command {words[0]}"
