"""An operator at work meanwhile: reads dead letters, replays them, edits one, holds a queue for a moment.

Through the command line, at a desk of its own.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError

from domain.jobs.dead_letters import DeadLetterFilter, find_dead_letters
from domain.stretch import Stretch
from ops.chaos.clients import PATIENCE_S, Client
from ops.chaos.desk import STARTED_WITHIN_S, WITHIN_S, Desk
from ops.chaos.history import Done, History, Pause, Posted, Tenant
from ops.chaos.kinds import Deed, Hang
from ops.chaos.system import ChaosFailed, System

NAME = "chaos"
_EVERY_S = (0.3, 1.2)
_HOLD_EVERY_S, _PAUSE_S = 10.0, 3.0
#: Several times what one command may take, and a desk that has to be opened first.
_RESUMED_WITHIN_S = 180.0
#: In their turn: those come first that always have something to do.
_QUEUES = ("inventory", "email", "webhooks", "reports")
#: What kills workers each time anew is replayed seldom, or nothing else gets done.
_POISON, _REPLAY_POISON = "chaos.poison", 0.05
#: What succeeds with other arguments.
EDITS = {"chaos.hang": Hang(0.01), "chaos.deed": Deed(0.01, fails=False)}
_EDIT = 0.5

HELD = "a queue was paused and resumed"
EDITED = "a dead letter was edited"

_CLOCK = text("SELECT clock_timestamp()")


class Operator:
    """One thread. `stop` returns when no queue is held any more, and raises ChaosFailed when that takes too long."""

    def __init__(self, system: System, tenants: Sequence[Tenant], history: History, seed: int) -> None:
        self._system, self._tenants, self._history = system, tenants, history
        self._dice = random.Random(f"operator {seed}")  # noqa: S311
        self._stopping = threading.Event()
        self._held: set[str] = set()
        self._answer = ""
        self._turns = cycle(_QUEUES)
        self._hold_at = time.monotonic() + _EVERY_S[1]
        self._desk = Desk(system.environ)
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(STARTED_WITHIN_S + WITHIN_S + 20)
        until = time.monotonic() + _RESUMED_WITHIN_S
        while self._held and time.monotonic() < until:
            for queue in list(self._held):
                if not self._resume(queue):
                    time.sleep(0.2)
        if self._held:
            raise ChaosFailed(f"{', '.join(self._held)} could not be resumed, and the last answer was: {self._answer}")

    def close(self) -> None:
        self._desk.close()

    def hold_in_peace(self, client: Client) -> None:
        """Once more, when nothing else waits: an order is posted meanwhile. For after `stop`. Raises ChaosFailed."""
        posted = Posted(self._tenants[0], {self._tenants[0].plenty[0]: 1})

        def post() -> None:
            time.sleep(_PAUSE_S / 2)
            self._history.begin(posted)
            client.post(posted, PATIENCE_S)
            time.sleep(_PAUSE_S / 2)

        self._hold(_QUEUES[0], post)
        self.stop()

    def sweep(self) -> None:
        """Retention comes every hour, and a run is shorter than that. For after `stop`. Raises ChaosFailed."""
        if self._type("retention", "run", "--yes") != "ok":
            raise ChaosFailed(f"retention could not be run, and the answer was: {self._answer}")

    def _run(self) -> None:
        client = Client(list(self._system.ports.values()), self._dice, self._history)
        while not self._stopping.wait(self._dice.uniform(*_EVERY_S)):
            for queue in list(self._held):
                self._resume(queue)
            if time.monotonic() > self._hold_at:
                self._hold_at = time.monotonic() + _HOLD_EVERY_S
                self._hold(next(self._turns), lambda: self._stopping.wait(_PAUSE_S))
            elif self._dice.random() < 0.2:
                self._list(client)
            elif letters := self._letters():
                self._treat(letters)
        client.close()

    def _list(self, client: Client) -> None:
        """Each tenant's own, over HTTP."""
        tenant = self._dice.choice(self._tenants)
        answer = client.ask("GET", "/admin/dead-letters?limit=20&resolved=false", tenant.admin_key)
        self._history.did("dead letters listed", answer.done)

    def _letters(self) -> list[Row[Any]]:
        with suppress(SQLAlchemyError), self._system.engine.connect() as connection:
            return find_dead_letters(connection, DeadLetterFilter(), Stretch(20))
        return []

    def _treat(self, letters: list[Row[Any]]) -> None:
        editable = [letter for letter in letters if letter.kind in EDITS]
        if editable and self._dice.random() < _EDIT:
            letter = self._dice.choice(editable)
            args = msgspec.json.encode(EDITS[letter.kind]).decode()
            self._resolved(letter.id, "edited", self._type("dlq", "edit", str(letter.id), "--args", args, "--yes"))
            return
        letter = self._dice.choice(letters)
        if letter.kind != _POISON or self._dice.random() < _REPLAY_POISON:
            self._resolved(letter.id, "replayed", self._type("dlq", "replay", str(letter.id), "--yes"))

    def _resolved(self, letter_id: UUID, how: str, done: Done) -> None:
        if done == "ok":
            self._history.resolve(str(letter_id), how)
            if how == "edited":
                self._history.meets(EDITED)

    def _hold(self, queue: str, meanwhile: Callable[[], object]) -> None:
        self._held.add(queue)  # also when nobody knows
        if self._type("queues", "pause", queue) == "ok":
            since = self._now()
            meanwhile()
            until = self._now()
            if self._resume(queue):
                self._history.meets(HELD)
            if since and until:
                self._history.pauses.append(Pause(queue, since, until))

    def _resume(self, queue: str) -> bool:
        done = self._type("queues", "resume", queue)
        if done == "ok":
            self._held.discard(queue)
        return done == "ok"

    def _now(self) -> datetime | None:
        with suppress(SQLAlchemyError), self._system.engine.connect() as connection:
            now: datetime = connection.execute(_CLOCK).scalar_one()
            return now
        return None

    def _type(self, *words: str) -> Done:
        ended = self._desk.type(*words, "--by", NAME, "--json")
        self._answer = ended.said
        self._history.did(f"longshore {' '.join(words[:2])}", ended.done)
        return ended.done
