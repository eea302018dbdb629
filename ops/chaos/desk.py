"""An operator's desk: a process in which commands of `longshore` are typed one after the other, as long as a run lasts.

Each is the command line as it is, words in and exit code out, with whatever bug a run has grafted on. A process for
each would cost a second of the processor every time.
"""

import contextlib
import io
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping

import msgspec

from ops.chaos.flags import NAME
from ops.chaos.history import Done
from ops.cli import main
from ops.cli.output import ExitCode

#: Longer than a command may wait for PostgreSQL: for a connection, a lock, and a standby that is on its way.
WITHIN_S = 20.0
#: Longer than it takes to load all of the command line on a machine that does much else.
STARTED_WITHIN_S = 90.0
#: How `ops.chaos.process` is asked for one.
DESK = "desk"
_READY = "ready"
#: Nothing of it was done, and the command says why.
_REFUSALS = {ExitCode.NOT_FOUND, ExitCode.REFUSED}


class Typed(msgspec.Struct, frozen=True):
    """One command, and the database it is for."""

    words: list[str]
    database_url: str


class Ended(msgspec.Struct, frozen=True):
    """How it ended, and what it said. A command that broke has no exit code of ours."""

    code: int
    said: str = ""

    @property
    def done(self) -> Done:
        if self.code == ExitCode.OK:
            return "ok"
        return "fail" if self.code in _REFUSALS else "unknown"


#: Nobody knows.
SILENCE = Ended(-1, "no answer")


class Desk:
    """One of an operator's own; started when the first command is typed, and again after one that did not end."""

    def __init__(self, environ: Mapping[str, str], within_s: float = WITHIN_S) -> None:
        self._environ, self._within_s = environ, within_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def type(self, *words: str) -> Ended:
        """Waits for its end, so long as it may take."""
        line = msgspec.json.encode(Typed(list(words), self._environ["DATABASE_URL"])) + b"\n"
        with self._lock:
            said = self._exchange(line)
            if said is None:
                self._end()
        return msgspec.json.decode(said, type=Ended) if said else SILENCE

    def _exchange(self, line: bytes) -> bytes | None:
        if self._process is None:
            self._process = self._spawn()
            # It says when commands may be typed: what it takes to start is no command's time.
            if _heard(self._process, STARTED_WITHIN_S) is None:
                return None
        if self._process.stdin is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()
        return _heard(self._process, self._within_s)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "ops.chaos.process", DESK]
        pipe, silence = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=silence, env={**self._environ, NAME: DESK})

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _heard(process: "subprocess.Popen[bytes]", within_s: float) -> bytes | None:
    """Its next line; None when there was none in time, or will be none."""
    if process.stdout is None:
        return None
    heard, _, _ = select.select([process.stdout], [], [], within_s)
    return (process.stdout.readline() or None) if heard else None


def serve() -> None:
    """Commands from stdin, a line each, until there are no more."""
    answers = sys.stdout
    print(_READY, flush=True)
    for line in sys.stdin.buffer:
        ended = _run(msgspec.json.decode(line, type=Typed))
        print(msgspec.json.encode(ended).decode(), file=answers, flush=True)


def _run(typed: Typed) -> Ended:
    os.environ["DATABASE_URL"] = typed.database_url
    sys.argv = ["longshore", *typed.words]
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
            return Ended(code, said.getvalue() or complained.getvalue())
        except Exception as error:  # noqa: BLE001  # the next command shall have its turn
            return Ended(-1, repr(error))
    return Ended(0, said.getvalue())
