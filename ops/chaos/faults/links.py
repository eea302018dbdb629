"""Faults of the links between processes: answers lost, silence, delay, a trickle, all of them one after the other."""

import time
from collections.abc import Iterator

from ops.chaos.faults import Scene, fault
from ops.chaos.wires import Bend


def _bent(scene: Scene, name: str, bend: Bend) -> Iterator[None]:
    before = scene.system.wires.touched(name)
    scene.system.wires.bend(name, bend)
    try:
        yield
    finally:
        scene.fires(scene.system.wires.touched(name) - before)
        scene.system.wires.straighten(name)


@fault("F22", "valkey-replies-lost", "links", (0.5, 2.0))
def lose_replies_of_valkey(scene: Scene) -> Iterator[None]:
    """Valkey does what it is told, and nobody hears that it did."""
    link = scene.dice.choice(["web-valkey", "relay-valkey", "worker-valkey"])
    yield from _bent(scene, link, Bend("replies", swallow=True))


@fault("F28", "commits-in-doubt", "links", (0.5, 3.0))
def lose_replies_of_postgresql(scene: Scene) -> Iterator[None]:
    """Commits arrive, and their answers do not: the outcome is in doubt."""
    link = scene.dice.choice(["web-postgresql", "worker-postgresql", "relay-postgresql"])
    yield from _bent(scene, link, Bend("replies", swallow=True))


@fault("F46", "swizzle", "links", (1.0, 4.0))
def stop_all_links_one_by_one(scene: Scene) -> Iterator[None]:
    """Every link goes, one after the other; they come back in another order."""
    wires = scene.system.wires
    names = scene.dice.sample(wires.names, len(wires.names))
    for name in names:
        wires.bend(name, Bend(swallow=True))
        time.sleep(0.1)
    try:
        yield
    finally:
        scene.fires(len(names))
        for name in scene.dice.sample(names, len(names)):
            time.sleep(0.1)
            wires.straighten(name)


@fault("F47", "slow-link", "links", (3.0, 8.0))
def slow_a_link(scene: Scene) -> Iterator[None]:
    """A tenth of a second more for everything on one link to PostgreSQL or Valkey."""
    link = scene.dice.choice([name for name in scene.system.wires.names if name.endswith(("postgresql", "valkey"))])
    yield from _bent(scene, link, Bend(delay_s=0.1))


@fault("F60", "links-cut", "links", (0.2, 3.0))
def cut_a_link(scene: Scene) -> Iterator[None]:
    """Connections are reset, new ones too."""
    link = scene.dice.choice(scene.system.wires.names)
    yield from _bent(scene, link, Bend(cut=True))


@fault("F61", "flipped-bits", "links", (0.5, 2.0))
def flip_bits(scene: Scene) -> Iterator[None]:
    """A bit in a third of what Valkey says to workers, relays or APIs is another one."""
    link = scene.dice.choice(["web-valkey", "relay-valkey", "worker-valkey"])
    yield from _bent(scene, link, Bend("replies", flip=0.3))
