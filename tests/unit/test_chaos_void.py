"""Runs that cannot be carried out prove nothing, and say why."""

from pathlib import Path
from unittest.mock import create_autospec

import pytest

from ops.chaos.campaign import _kept_when_void
from ops.chaos.system import ChaosFailed, System


def test_who_waited_in_vain_is_told_what_was_in_the_way_last() -> None:
    def is_up() -> bool:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(ChaosFailed, match=r"^it did not come back within 0\.2 s: nobody listens$"):
        System.wait(create_autospec(System), is_up, "it did not come back", 0.2)


def test_what_was_said_in_a_run_that_failed_is_kept() -> None:
    running = create_autospec(System)
    with pytest.raises(ChaosFailed), _kept_when_void(running, Path("logs")):
        raise ChaosFailed
    running.keep_logs.assert_called_once_with(Path("logs"))


def test_nothing_is_kept_where_nobody_asked_for_it() -> None:
    running = create_autospec(System)
    with pytest.raises(ChaosFailed), _kept_when_void(running, None):
        raise ChaosFailed
    with _kept_when_void(running, Path("logs")):
        pass
    running.keep_logs.assert_not_called()
