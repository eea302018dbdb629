"""Crashes at a chosen moment: after the push, after the commit, at each start. A wire waits for the words that tell."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ops.chaos.faults import Scene, fault
from ops.chaos.faults.processes import enqueue_all
from ops.chaos.flags import deaths_of, flagged
from ops.chaos.kinds import Deed
from ops.chaos.sockets import holder_of
from ops.chaos.wires import Bend

_WITHIN_S = 4.0
#: What was asked arrives, and is done, before the caller dies.
_DONE_AFTER_S = 0.05
#: Deaths in a quarter of a minute, if each start waits twice as long as the one before, and some more.
_MOST_DEATHS = 8


@fault("F03", "relay-kill9-after-push", "links")
def kill_a_relay_after_its_push(scene: Scene) -> Iterator[None]:
    """kill -9 of the relay that leads, while it waits for the answer of a push: nobody remembers those rings."""
    with _answers_lost(scene, "relay-valkey", b"RPUSH"):
        _kill_who_asked(scene, "relay-valkey")
    yield


@fault("F07", "worker-kill9-after-commit", "links")
def kill_a_worker_after_its_commit(scene: Scene) -> Iterator[None]:
    """kill -9 of a worker whose work is committed, and who has not heard so: no second effect."""
    with _answers_lost(scene, "worker-postgresql", b"chaos_deeds", b"COMMIT"):
        enqueue_all(scene, *(Deed(0.0, fails=False) for _ in range(20)))
        _kill_who_asked(scene, "worker-postgresql")
    yield


@fault("F14", "crash-loop", "worker", (8.0, 11.0))
def crash_at_each_start(scene: Scene) -> Iterator[None]:
    """A worker or a relay that dies at each start: it is started ever more seldom, and the others carry on."""
    name = scene.dice.choice(["worker-1", "relay-1"])
    before = deaths_of(scene.system.folder, name)
    with flagged(scene.system.folder, name, "dies"):
        scene.system.signal(name, signal.SIGKILL)
        yield
    deaths = deaths_of(scene.system.folder, name) - before
    scene.fires(deaths if deaths > 1 else 0)
    if deaths > _MOST_DEATHS:
        scene.history.is_strange(f"{name} was started {deaths} times in a few seconds")


@contextmanager
def _answers_lost(scene: Scene, wire: str, *after: bytes) -> Iterator[None]:
    scene.system.wires.bend(wire, Bend("replies", swallow=True, after=after))
    try:
        yield
    finally:
        scene.system.wires.straighten(wire)


def _kill_who_asked(scene: Scene, wire: str) -> None:
    until = time.monotonic() + _WITHIN_S
    while not (callers := scene.system.wires.struck(wire)):
        if time.monotonic() > until:
            return
        time.sleep(0.005)
    time.sleep(_DONE_AFTER_S)
    if name := holder_of(callers[0], scene.system.pids):
        scene.fires(scene.system.signal(name, signal.SIGKILL))
