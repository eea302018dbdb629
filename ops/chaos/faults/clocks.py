"""Faults of wall clocks: some processes, or the database, believe for a while that it is another time.

The monotonic clock is as it was. A process that starts meanwhile is as wrong.
"""

from collections.abc import Iterator

from ops.chaos.faults import Scene, fault

_HOUR_MS = 3_600_000
#: Leases are for eight seconds and renewed every two: within this, whoever lives keeps its lease.
_DATABASE_MS = 4_000


@fault("F44", "clock-forward", "clocks", (2.0, 8.0))
def put_a_clock_forward(scene: Scene) -> Iterator[None]:
    """A worker and another process are an hour ahead, and then right again."""
    yield from _wrong(scene, {_one(scene, "worker"), _one(scene)}, _HOUR_MS)


@fault("F45", "clock-back", "clocks", (2.0, 8.0))
def put_a_clock_back(scene: Scene) -> Iterator[None]:
    """An API and another process are two hours behind, and then right again."""
    yield from _wrong(scene, {_one(scene, "web"), _one(scene)}, -2 * _HOUR_MS)


@fault("F45", "database-clock", "clocks", (2.0, 8.0))
def put_the_clock_of_the_database(scene: Scene) -> Iterator[None]:
    """PostgreSQL's clock jumps by four seconds, forward or back, and then to where it was."""
    yield from _wrong(scene, {"postgresql"}, scene.dice.choice([_DATABASE_MS, -_DATABASE_MS]))


def _one(scene: Scene, role: str = "") -> str:
    """Of this role, or of any: those that are idle look at no clock, so a role that is never idle comes first."""
    role = role or scene.dice.choice(["web", "relay", "rescuer", "scheduler", "worker"])
    return scene.dice.choice([name for name in scene.system.shim.names if name.startswith(role)])


def _wrong(scene: Scene, names: set[str], ms: int) -> Iterator[None]:
    controls = [scene.system.shim[name] for name in sorted(names)]
    before = [control.met for control in controls]
    for control in controls:
        control.set(clock_ms=ms)
    try:
        yield
    finally:
        for control in controls:
            control.set(clock_ms=0)
        scene.fires(sum(control.met > met for control, met in zip(controls, before, strict=True)))
