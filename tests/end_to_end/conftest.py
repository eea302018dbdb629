"""One system for all end-to-end tests: starting it takes seconds, and it must stand what the last test did to it."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.running import Running, running


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("system") / "data") as started:
        yield started
