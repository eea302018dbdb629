"""One system for all end-to-end tests of a module: starting it takes seconds."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.running import Running, running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("system") / "data") as started:
        yield started
