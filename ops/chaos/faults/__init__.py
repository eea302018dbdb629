"""The faults by name: what is done to the system, for how long, and how it is undone.

Each is a generator: before its `yield` it does harm, after it heals. What it touches says which faults exclude each
other. A fault counts as fired when it saw itself take effect; one that cannot see that counts what it did. Numbers
are those of the fault list in docs/chaos.md.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from ops.chaos.history import History
from ops.chaos.stage import Turn
from ops.chaos.system import ChaosFailed, System

Touches = Literal[
    "web",
    "relay",
    "rescuer",
    "scheduler",
    "worker",
    "valkey",
    "postgresql",
    "links",
    "outside",
    "subscribers",
    "callers",
    "clocks",
]


class Scene:
    """Where a fault is at work. `dice` are its own, from the seed."""

    def __init__(self, system: System, history: History, tenant_id: str, dice: random.Random) -> None:
        self.system, self.history, self.tenant_id, self.dice = system, history, tenant_id, dice
        self.turn = Turn("", "", time.time())

    def fires(self, times: int = 1) -> None:
        """It took effect, so many times."""
        self.turn.times += times

    def comes_true(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Waits for it; False when the time is up."""
        with suppress(ChaosFailed):
            self.system.wait(condition, "in vain", within_s)
            return True
        return False

    def others_felt(self, harmless: Collection[str] = ()) -> list[str]:
        """Faults of other names that may be felt since this one began; but for those that touch what is named."""
        felt = self.history.stage.felt(self.turn.since, harmless=harmless)
        return [name for name in felt if name != self.turn.name]


Harm = Callable[[Scene], Iterator[None]]


class Fault(msgspec.Struct, frozen=True):
    """One fault: `seconds` bounds how long it stands before it is healed. Some need a standby to have any effect."""

    id: str
    name: str
    summary: str
    touches: Touches
    seconds: tuple[float, float]
    harm: Harm
    needs_standby: bool = False


FAULTS: dict[str, Fault] = {}


def fault(
    id: str,  # noqa: A002
    name: str,
    touches: Touches,
    seconds: tuple[float, float] = (0.0, 0.5),
    *,
    needs_standby: bool = False,
) -> Callable[[Harm], Harm]:
    """The decorated generator is this fault; its docstring says what it does."""

    def register(harm: Harm) -> Harm:
        if name in FAULTS:
            raise ValueError(f"fault {name} is declared twice")
        FAULTS[name] = Fault(id, name, (harm.__doc__ or "").strip(), touches, seconds, harm, needs_standby)
        return harm

    return register
