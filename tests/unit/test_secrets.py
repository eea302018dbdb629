"""No secret stands in the repository: what looks like one is named by its file and line."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

SHOWN = {".ci", ".env.example", ".gitignore", ".dockerignore"}
SECRETS = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an API key of ours": re.compile(rb"longshore_live_[A-Za-z0-9]{8}_[A-Za-z0-9]{49}"),
    "a key of AWS": re.compile(rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a token of GitHub": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})"),
    "a token of a chat": re.compile(rb"\bxox[abeoprs]-[A-Za-z0-9-]{20}"),
    "a key of a payment service": re.compile(rb"\b[rs]k_live_[A-Za-z0-9]{20}"),
    "a JWT": re.compile(rb"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
    "a password in a URL": re.compile(rb"\b(?:postgres|postgresql|rediss?|smtps?)://[a-z]+:[A-Za-z0-9]{16,}@"),
    "a value of SECRET_KEY or JWT_KEYS": re.compile(rb"\b(?:SECRET_KEY|JWT_KEYS)[=:] ?\"?[A-Za-z0-9+/]{43}="),
}


def test_no_file_of_the_repository_holds_a_secret() -> None:
    files = list(_files())
    assert {ROOT / "ops" / "settings.py", ROOT / ".env.example", ROOT / ".ci" / "run"} <= set(files)
    assert [found for path in files for found in _secrets(path)] == []


def test_what_looks_like_a_secret_is_found(tmp_path: Path) -> None:
    path = tmp_path / "settings.env"
    path.write_text("# mine\nSECRET_KEY=" + "A" * 43 + "=\n")
    assert list(_secrets(path)) == [f"{path}:2: a value of SECRET_KEY or JWT_KEYS"]


def _files() -> Iterator[Path]:
    """All but what is compiled or hidden, as caches, environments and a developer's own settings are."""
    for path in ROOT.rglob("*"):
        hidden = [part for part in path.relative_to(ROOT).parts if part.startswith((".", "__py")) and part not in SHOWN]
        if not hidden and path.is_file():
            yield path


def _secrets(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        for name, pattern in SECRETS.items():
            if pattern.search(line):
                yield f"{path}:{number}: {name}"
