"""The README keeps its sections, its table of the environment is that of the settings, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from ops.settings import Settings

ROOT = Path(__file__).parents[2]
HEADINGS = (
    "Overview",
    "Features",
    "Prerequisites",
    "Quick start",
    "Environment",
    "API endpoints",
    "Development",
    "Testing",
)
#: Pages whose links are held to account, the README first.
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(text: str) -> list[str]:
    return re.findall(r"^#{1,6} +(.+?) *#*$", _CODE.sub("", text), re.MULTILINE)


def section(text: str, heading: str) -> str:
    """From a second-level heading to the next one."""
    found = re.search(rf"^## +{re.escape(heading)} *$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def anchor(heading: str) -> str:
    """The id that a heading gets: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    text = page.read_text()
    return [link for link in _LINK.findall(_CODE.sub("", text)) if not _resolves(page, text, link)]


def _resolves(page: Path, text: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True  # the world outside is not ours to test
    path, _, fragment = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    if not fragment or target.suffix != ".md":
        return True
    return fragment in {anchor(heading) for heading in headings(target.read_text() if path else text)}


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_readme_has_its_sections(heading: str) -> None:
    assert heading in re.findall(r"^## +(.+?) *$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_table_of_the_environment_is_that_of_the_settings() -> None:
    table = section((ROOT / "README.md").read_text(), "Environment")
    listed = re.findall(r"^\| *`([A-Z_]+)`", table, re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.__struct_fields__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []
