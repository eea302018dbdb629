"""The peers are measured as their pins and the catalogue say: hash-pinned, apart from us, the same mark for all."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from ops.bench.peer_catalogue import CATALOGUE, FASTEST, FLOOR, PEERS
from ops.bench.peer_environments import NotInstalled, cache, programs_of, version_of

APPS = sorted({peer.app for peer in CATALOGUE})


def test_the_systems_that_the_goals_name_are_there() -> None:
    names = [peer.name for peer in CATALOGUE]
    assert len(names) == len(set(names))
    assert {FASTEST, FLOOR, "dramatiq", "celery threads", "taskiq", "procrastinate", "pgqueuer"} <= set(names)


def test_every_folder_is_in_the_catalogue() -> None:
    assert sorted(path.parent.name for path in PEERS.glob("*/app.py")) == APPS


@pytest.mark.parametrize("app", APPS)
def test_every_requirement_is_pinned_with_hashes_and_names_no_host(app: str) -> None:
    pins = (PEERS / app / "requirements.txt").read_text()
    wanted = (PEERS / app / "requirements.in").read_text().split()
    requirements = re.findall(r"^[\w.\[\]-]+==\S+.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", pins, re.MULTILINE)
    assert len(requirements) == len(re.findall(r"^\w", pins, re.MULTILINE))
    assert "://" not in pins
    assert {re.sub(r"\[.*?\]", "", one) for one in wanted} <= set(re.findall(r"^[\w.-]+==[^\s;]+", pins, re.MULTILINE))
    assert version_of(app)


@pytest.mark.parametrize("app", APPS)
def test_every_job_leaves_the_same_mark(app: str) -> None:
    tree = ast.parse((PEERS / app / "app.py").read_text())
    jobs = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "noop"
    ]
    assert len(jobs) == 1
    calls = [
        node.func.id for node in ast.walk(jobs[0]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert calls == ["mark"]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "longshore" / "bench"


def test_a_peer_that_cannot_be_installed_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="a warning\nno network here\n")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", fails)
    said: list[str] = []
    with pytest.raises(NotInstalled, match=r"^dramatiq: no network here$"):
        programs_of("dramatiq", said.append)
    assert len(said) == 1
    assert not (cache() / "dramatiq" / ".installed").exists()


def test_a_peer_is_installed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def installs(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        (cache() / "dramatiq").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", installs)
    first = programs_of("dramatiq", lambda _: None)
    assert programs_of("dramatiq", lambda _: None) == first == cache() / "dramatiq" / "bin"
    assert len(commands) == 2
    assert "--require-hashes" in commands[1]
