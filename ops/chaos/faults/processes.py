"""Faults of our own processes: killed, frozen, told to stop, and jobs that harm whoever runs them."""

import signal
import time
from collections.abc import Iterator, Sequence
from uuid import UUID

from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from ops.chaos.faults import Scene, fault
from ops.chaos.kinds import BADLY, WELL, Hang, Honest, Poison, Rogue, Stall
from workers.broker import ring_relay


def _kill(scene: Scene, role: str, number: signal.Signals = signal.SIGKILL) -> None:
    names = [name for name in scene.system.pids if name.startswith(role)]
    if names:
        scene.fires(scene.system.signal(scene.dice.choice(names), number))


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
    with scene.system.engine.begin() as tx:
        enqueue(tx, [new_job(args, tenant_id=UUID(scene.tenant_id)) for args in jobs])
    ring_relay(scene.system.redis)


def _send(scene: Scene, *jobs: JobArgs) -> None:
    enqueue_all(scene, *jobs)
    scene.fires(len(jobs))


@fault("F01", "api-kill9", "web")
def kill_an_api(scene: Scene) -> Iterator[None]:
    """kill -9 of an API with requests under way."""
    _kill(scene, "web")
    yield


@fault("F02", "api-term", "web")
def stop_an_api(scene: Scene) -> Iterator[None]:
    """SIGTERM to an API under load: it drains and leaves."""
    _kill(scene, "web", signal.SIGTERM)
    yield


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
    _kill(scene, "worker", signal.SIGTERM)
    yield


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
