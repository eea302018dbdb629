"""Faults of our own processes: killed, frozen, told to stop, and jobs that harm whoever runs them."""

import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from ops.chaos.faults import Scene, fault
from ops.chaos.history import Noted
from ops.chaos.kinds import BADLY, WELL, Hang, Honest, Poison, Rogue, Stall
from ops.chaos.system import ChaosFailed
from workers.broker import ring_relay

#: Who leaves has half a minute, and one who holds Python's lock meanwhile hears of it late.
_LEAVES_WITHIN_S = 50.0
_LEAVES: Noted = "who is told to leave leaves"


def _kill(scene: Scene, role: str) -> None:
    names = [name for name in scene.system.pids if name.startswith(role)]
    if names:
        scene.fires(scene.system.signal(scene.dice.choice(names), signal.SIGKILL))


def _freeze(scene: Scene, names: Sequence[str]) -> Iterator[None]:
    stopped = [name for name in names if scene.system.signal(name, signal.SIGSTOP)]
    scene.fires(len(stopped))
    try:
        yield
    finally:
        for name in stopped:
            scene.system.signal(name, signal.SIGCONT)


def enqueue_all(scene: Scene, *jobs: JobArgs) -> None:
    """These jobs are there, and the relay is told. Raises DBAPIError."""
    made = [new_job(args, tenant_id=UUID(scene.tenant_id)) for args in jobs]
    scene.history.enqueued.update(str(job.id) for job in made)
    with scene.system.engine.begin() as tx:
        enqueue(tx, made)
    ring_relay(scene.system.redis)


def _send(scene: Scene, *jobs: JobArgs) -> None:
    enqueue_all(scene, *jobs)
    scene.fires(len(jobs))


def _tell_to_leave(scene: Scene, role: str) -> Iterator[None]:
    """SIGTERM, and it leaves: with exit code 0, where nothing else was in its way."""
    names = [name for name in scene.system.pids if name.startswith(role)]
    if not names:
        return (yield)
    name = scene.dice.choice(names)
    pid, said = scene.system.pids.get(name), (scene.system.folder / "system.log").stat().st_size
    scene.fires(scene.system.signal(name, signal.SIGTERM))
    yield
    if not scene.history.noted[_LEAVES]:  # once is enough: each would be waited for
        _expect_to_leave(scene, name, pid, said)
    return None


def _expect_to_leave(scene: Scene, name: str, pid: int | None, said: int) -> None:
    """`said` is how long the log was before."""
    log = scene.system.folder / "system.log"
    try:
        scene.system.wait(lambda: scene.system.pids.get(name) != pid, f"{name} did not leave", _LEAVES_WITHIN_S)
    except ChaosFailed as failed:
        scene.history.breaks(_LEAVES, str(failed))
    else:
        code = re.search(rf"^supervisor +\| {name} ended with exit code ([1-9]\d*)", _since(log, said), re.MULTILINE)
        if code and not scene.others_felt():
            scene.history.breaks(_LEAVES, f"{name} was told to leave, and ended with exit code {code[1]}")


def _since(log: Path, place: int) -> str:
    with log.open("rb") as lines:
        lines.seek(place)
        return lines.read().decode(errors="replace")


@fault("F01", "api-kill9", "web")
def kill_an_api(scene: Scene) -> Iterator[None]:
    """kill -9 of an API with requests under way."""
    _kill(scene, "web")
    yield


@fault("F02", "api-term", "web")
def stop_an_api(scene: Scene) -> Iterator[None]:
    """SIGTERM to an API under load: it drains and leaves."""
    yield from _tell_to_leave(scene, "web")


@fault("F04", "relay-stop", "relay", (3.0, 8.0))
def freeze_a_relay(scene: Scene) -> Iterator[None]:
    """SIGSTOP of one of two relays, then SIGCONT: the other leads meanwhile."""
    yield from _freeze(scene, [scene.dice.choice(["relay-0", "relay-1"])])


@fault("F05", "relays-stop", "relay", (4.0, 10.0))
def freeze_every_relay(scene: Scene) -> Iterator[None]:
    """SIGSTOP of every relay: rows stay due, and ring afterwards."""
    yield from _freeze(scene, ["relay-0", "relay-1"])


@fault("F06", "worker-kill9", "worker")
def kill_a_worker(scene: Scene) -> Iterator[None]:
    """kill -9 of a worker at work."""
    _kill(scene, "worker")
    yield


@fault("F08", "worker-stop", "worker", (9.0, 12.0))
def freeze_a_worker(scene: Scene) -> Iterator[None]:
    """SIGSTOP of a worker past its lease, then SIGCONT: what it finishes then is refused."""
    yield from _freeze(scene, [scene.dice.choice(["worker-0", "worker-1", "worker-2"])])


@fault("F10", "poison", "worker", (1.0, 4.0))
def send_poison(scene: Scene) -> Iterator[None]:
    """A job that takes its worker down, among honest neighbours."""
    _send(scene, Poison(), *(Honest(0.05) for _ in range(20)))
    yield


@fault("F11", "gil-stall", "worker", (1.0, 4.0))
def stall_a_worker(scene: Scene) -> Iterator[None]:
    """A job that holds Python's lock for longer than a lease."""
    _send(scene, Stall(10))
    yield


@fault("F12", "hang", "worker", (1.0, 4.0))
def hang_a_thread(scene: Scene) -> Iterator[None]:
    """A job that waits in a system call, past its timeout."""
    _send(scene, Hang(8.0), *(Honest(0.05) for _ in range(20)))
    yield


@fault("F64", "rogues", "worker", (1.0, 4.0))
def send_rogues(scene: Scene) -> Iterator[None]:
    """Async jobs that call sys.exit, are cancelled, raise what has no text or return what cannot be stored."""
    _send(scene, *(Rogue(how) for how in BADLY), *(Rogue(WELL) for _ in range(16)))
    yield


@fault("F13", "workers-die", "worker", (2.0, 6.0))
def kill_every_worker(scene: Scene) -> Iterator[None]:
    """kill -9 of all workers at once, and of those that come after them, for a while."""
    for name in ("worker-0", "worker-1", "worker-2"):
        scene.fires(scene.system.signal(name, signal.SIGKILL))
    time.sleep(1.0)
    _kill(scene, "worker")
    yield


@fault("F57", "worker-term", "worker")
def stop_a_worker(scene: Scene) -> Iterator[None]:
    """SIGTERM to a worker under load: it hands back what it has not done."""
    yield from _tell_to_leave(scene, "worker")


@fault("F58", "keepers-kill9", "rescuer")
def kill_a_rescuer_and_the_scheduler(scene: Scene) -> Iterator[None]:
    """kill -9 of a rescuer and of the scheduler."""
    _kill(scene, "rescuer")
    _kill(scene, "scheduler")
    yield


@fault("F63", "relay-kill9", "relay")
def kill_a_relay(scene: Scene) -> Iterator[None]:
    """kill -9 of a relay, whatever it does."""
    _kill(scene, "relay")
    yield
