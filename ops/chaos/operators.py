"""An operator at work meanwhile: reads dead letters, replays them, edits one, holds a queue for a moment.

Mostly through the functions that the command line calls, now and then through the command line itself, which takes
about a second to start.
"""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import LongshoreError
from domain.jobs.controls import pause, resume
from domain.jobs.dead_letters import DeadLetterFilter, find_dead_letters, replay_edited_if_open, replay_if_open
from domain.stretch import Stretch
from ops.chaos.clients import Client
from ops.chaos.history import Done, History, Tenant
from ops.chaos.kinds import Deed, Hang
from ops.chaos.system import System

NAME = "chaos"
_EVERY_S = (0.3, 1.2)
_CLI_EVERY_S = 8.0
_CLI_WITHIN_S = 30.0
_PAUSES_S = (0.3, 1.0)
_QUEUES = ("inventory", "email", "webhooks", "reports")
#: What kills workers each time anew is replayed seldom, or nothing else gets done.
_POISON, _REPLAY_POISON = "chaos.poison", 0.05
#: What succeeds with other arguments.
_EDITS = {"chaos.hang": Hang(0.01), "chaos.deed": Deed(0.01, fails=False)}
_EDIT = 0.3

HELD = "a queue was paused and resumed"
EDITED = "a dead letter was edited"


class Operator:
    """One thread. `stop` returns when no queue is held any more; the database must be up by then."""

    def __init__(self, system: System, tenants: Sequence[Tenant], history: History, seed: int) -> None:
        self._system, self._tenants, self._history = system, tenants, history
        self._dice = random.Random(f"operator {seed}")  # noqa: S311
        self._stopping = threading.Event()
        self._held: set[str] = set()
        self._typed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(_CLI_WITHIN_S + 20)
        for queue in list(self._held):
            self._system.wait(lambda queue=queue: self._resume(queue), f"{queue} is held", 30.0)  # type: ignore[misc]

    def _run(self) -> None:
        client = Client(list(self._system.ports.values()), self._dice, self._history)
        while not self._stopping.wait(self._dice.uniform(*_EVERY_S)):
            for queue in list(self._held):
                self._resume(queue)
            if self._dice.random() < 0.1:
                self._hold_a_queue()
            elif self._dice.random() < 0.2:
                self._list(client)
            elif letter := self._find():
                self._treat(letter)
        client.close()

    def _list(self, client: Client) -> None:
        """Each tenant's own, over HTTP."""
        tenant = self._dice.choice(self._tenants)
        answer = client.ask("GET", "/admin/dead-letters?limit=20&resolved=false", tenant.admin_key)
        self._history.did("dead letters listed", answer.done)

    def _find(self) -> Row[Any] | None:
        found: list[Row[Any]] = []
        with suppress(SQLAlchemyError), self._system.engine.connect() as connection:
            found = find_dead_letters(connection, DeadLetterFilter(), Stretch(20))
        letter = self._dice.choice(found) if found else None
        if letter is not None and letter.kind == _POISON and self._dice.random() > _REPLAY_POISON:
            return None
        return letter

    def _treat(self, letter: Row[Any]) -> None:
        if letter.kind in _EDITS and self._dice.random() < _EDIT:
            args = msgspec.to_builtins(_EDITS[letter.kind])
            done = self._act("edit", lambda tx: replay_edited_if_open(tx, letter.id, args, NAME))
            self._resolved(letter.id, "edited", done)
        elif time.monotonic() - self._typed_at > _CLI_EVERY_S:
            self._typed_at = time.monotonic()
            self._resolved(letter.id, "replayed", self._type("dlq", "replay", str(letter.id), "--by", NAME, "--yes"))
        else:
            done = self._act("replay", lambda tx: replay_if_open(tx, letter.id, NAME))
            self._resolved(letter.id, "replayed", done)

    def _resolved(self, letter_id: UUID, how: str, done: Done) -> None:
        if done == "ok":
            self._history.resolved[str(letter_id)] = how
            if how == "edited":
                self._history.meets(EDITED)

    def _hold_a_queue(self) -> None:
        queue = self._dice.choice(_QUEUES)
        self._held.add(queue)  # also when nobody knows
        if self._act("pause", lambda tx: pause(tx, "queue", queue, NAME)) == "ok":
            self._stopping.wait(self._dice.uniform(*_PAUSES_S))
            if self._resume(queue):
                self._history.meets(HELD)

    def _resume(self, queue: str) -> bool:
        done = self._act("resume", lambda tx: resume(tx, "queue", queue, NAME))
        if done == "ok":
            self._held.discard(queue)
        return done == "ok"

    def _act(self, operation: str, change: Callable[[Any], object]) -> Done:
        done: Done = "ok"
        try:
            with self._system.engine.begin() as tx:
                change(tx)
        except LongshoreError:
            done = "fail"
        except SQLAlchemyError:
            done = "unknown"
        self._history.did(operation, done)
        return done

    def _type(self, *words: str) -> Done:
        """A command as an operator types it. Its exit code says whether it did what it was told."""
        command = [sys.executable, "-P", "-m", "ops.cli", *words, "--json"]
        done: Done = "unknown"
        with suppress(subprocess.TimeoutExpired):
            ended = subprocess.run(
                command, capture_output=True, env=self._system.environ, timeout=_CLI_WITHIN_S, check=False
            )
            done = "ok" if ended.returncode == 0 else "unknown"
        self._history.did("longshore dlq replay", done)
        return done
