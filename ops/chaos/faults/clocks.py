"""Faults of wall clocks: one process, or the database, believes for a while that it is another time.

The monotonic clock is as it was. A process that starts meanwhile is as wrong.
"""

from collections.abc import Iterator

from ops.chaos.faults import Scene, fault

_HOUR_MS = 3_600_000
#: Leases are for eight seconds and renewed every two: within this, whoever lives keeps its lease.
_DATABASE_MS = 4_000


@fault("F44", "clock-forward", "clocks", (2.0, 8.0))
def put_a_clock_forward(scene: Scene) -> Iterator[None]:
    """One process is an hour ahead, and then right again."""
    yield from _wrong(scene, _one_of_ours(scene), _HOUR_MS)


@fault("F45", "clock-back", "clocks", (2.0, 8.0))
def put_a_clock_back(scene: Scene) -> Iterator[None]:
    """One process is two hours behind, and then right again."""
    yield from _wrong(scene, _one_of_ours(scene), -2 * _HOUR_MS)


@fault("F45", "database-clock", "clocks", (2.0, 8.0))
def put_the_clock_of_the_database(scene: Scene) -> Iterator[None]:
    """PostgreSQL's clock jumps by four seconds, forward or back, and then to where it was."""
    yield from _wrong(scene, "postgresql", scene.dice.choice([_DATABASE_MS, -_DATABASE_MS]))


def _one_of_ours(scene: Scene) -> str:
    role = scene.dice.choice(["web", "relay", "rescuer", "scheduler", "worker"])
    return scene.dice.choice([name for name in scene.system.shim.names if name.startswith(role)])


def _wrong(scene: Scene, name: str, ms: int) -> Iterator[None]:
    control = scene.system.shim[name]
    before = control.met
    control.set(clock_ms=ms)
    try:
        yield
    finally:
        control.set(clock_ms=0)
        scene.fires(control.met > before)
