"""Real servers for every test that asks: one stack per session, one fresh database per test.

`stack` and what builds on it use the embedded servers, or those of TEST_DATABASE_URL and TEST_REDIS_URL.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import ops.chaos.kinds  # noqa: F401  # declares kinds of its own; see below
from domain.jobs.kind import KINDS
from ops.stack import Stack
from workers.registry import HANDLERS

# The product has no such kinds: whatever imports the harness, no test finds them declared.
for declared in (KINDS, HANDLERS):
    for name in [name for name in declared if name.startswith("chaos.")]:
        del declared[name]

# A busy machine is no bug: how long an example takes is not asserted.
settings.register_profile("longshore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("longshore")

MARKED_FOLDERS = ("integration", "end_to_end")

MEMORY = Path("/dev/shm")  # noqa: S108  # the folders in it are made by tempfile
ROOM = 4 * 1024**3


@dataclass(frozen=True)
class GivenServers:
    """Servers that somebody else runs: reachable, but not ours to kill."""

    database_url: str
    redis_url: str


def pytest_configure() -> None:
    """What tests write lies in memory, where a machine has room there: 1,500 databases are made and dropped.

    A disk would sync each of them, and ext4 without a journal looks for room for a new file among all that were deleted
    in the last minute. TMPDIR, where it is set, is obeyed.
    """
    if "TMPDIR" not in os.environ and _serves_as_disk(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asked anew


def _serves_as_disk(folder: Path) -> bool:
    """Whether there is room, and a library that was compiled there may be loaded."""
    return (
        os.access(folder, os.W_OK)
        and shutil.disk_usage(folder).free >= ROOM
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in MARKED_FOLDERS:
            if folder in item.path.parts:
                item.add_marker(folder)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack | GivenServers]:
    """Both servers, running. A test that kills one starts a Stack of its own."""
    match os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL"):
        case str(database_url), str(redis_url):
            yield GivenServers(database_url, redis_url)
        case _:
            folder: Path = tmp_path_factory.mktemp("stack")
            with Stack(folder) as running:
                yield running
