"""The desk of an operator in a chaos run: the command line as it is, without a process for each command."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.chaos.desk import SILENCE, Desk, Ended
from ops.chaos.flags import FOLDER
from ops.cli.output import ExitCode

NOBODY = "postgresql://nobody:nothing@127.0.0.1:1/nowhere"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder: Path = tmp_path_factory.mktemp("run")
    desk = Desk({**os.environ, FOLDER: str(folder), "DATABASE_URL": NOBODY})
    yield desk
    desk.close()


def test_a_command_says_how_it_ended_and_the_next_one_has_its_turn(desk: Desk) -> None:
    assert desk.type("--version").code == ExitCode.OK
    assert desk.type("no-such-command").code == ExitCode.USAGE
    assert desk.type("--version").said.startswith("longshore ")


def test_a_database_that_is_not_there_leaves_the_outcome_unknown(desk: Desk) -> None:
    assert desk.type("queues", "pause", "email", "--json").done == "unknown"


def test_a_desk_that_has_gone_is_silence_and_then_there_is_another(desk: Desk) -> None:
    assert desk.type("--version").done == "ok"
    assert desk._process is not None
    desk._process.kill()
    desk._process.wait()
    assert desk.type("--version") == SILENCE
    assert desk.type("--version").done == "ok"


def test_a_desk_that_is_slow_to_start_is_no_silence(tmp_path: Path) -> None:
    # Given commands that may take less time than it takes to load them
    desk = Desk({**os.environ, FOLDER: str(tmp_path), "DATABASE_URL": NOBODY}, within_s=0.7)
    try:
        assert desk.type("no-such-command").code == ExitCode.USAGE
    finally:
        desk.close()


def test_a_refusal_is_no_success_and_what_broke_is_neither() -> None:
    codes = {ExitCode.OK: "ok", ExitCode.REFUSED: "fail", ExitCode.NOT_FOUND: "fail", ExitCode.ERROR: "unknown"}
    assert {code: Ended(code).done for code in codes} == codes
    assert SILENCE.done == "unknown"
