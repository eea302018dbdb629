"""Faults of operators: all of them at once, and everything twice."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from domain.errors import LongshoreError
from domain.jobs.dead_letters import DeadLetterFilter, match_dead_letters, replay_if_open
from ops.chaos.faults import Scene, fault
from ops.chaos.faults.processes import enqueue_all
from ops.chaos.kinds import Doomed
from ops.chaos.system import ChaosFailed

_DEAD, _DEAD_WITHIN_S = 300, 15.0
_OPERATORS = ("ann", "bob")
#: Poison stays where it is: to replay it is to kill workers, which other faults do.
_KINDS = ("chaos.doomed", "inventory.reserve", "webhook.deliver", "email.order_confirmed", "email.order_rejected")
_DOOMED = text("SELECT count(*) FROM dead_letters WHERE kind = 'chaos.doomed' AND resolution IS NULL")


@fault("F56", "replay-storm", "callers", (4.0, 8.0))
def replay_everything(scene: Scene) -> Iterator[None]:
    """Two operators replay all dead letters at the same moment, and once more: each takes effect once."""
    enqueue_all(scene, *(Doomed() for _ in range(_DEAD)))
    with suppress(ChaosFailed):
        scene.system.wait(lambda: _dead(scene) == _DEAD, "not every doomed job died", _DEAD_WITHIN_S)
    for _ in range(2):
        threads = [threading.Thread(target=_replay_all, args=(scene, name), daemon=True) for name in _OPERATORS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    yield


def _dead(scene: Scene) -> int:
    with scene.system.engine.connect() as connection:
        return int(connection.execute(_DOOMED).scalar_one())


def _replay_all(scene: Scene, operator: str) -> None:
    for kind in _KINDS:
        found: list[UUID] = []
        with suppress(DBAPIError), scene.system.engine.begin() as tx:
            found = match_dead_letters(tx, DeadLetterFilter(kind))
        scene.fires(sum(_replay(scene.system.engine, letter, operator) for letter in found))


def _replay(engine: Engine, letter: UUID, operator: str) -> bool:
    """False when the other was first, or an outage was in the way."""
    with suppress(DBAPIError, LongshoreError), engine.begin() as tx:
        replay_if_open(tx, letter, operator, "storm")
        return True
    return False
