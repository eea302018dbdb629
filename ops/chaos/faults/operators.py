"""Faults of operators: all of them at once, and everything twice."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing

from sqlalchemy import text

from ops.chaos.desk import Desk
from ops.chaos.faults import Scene, fault
from ops.chaos.faults.processes import enqueue_all
from ops.chaos.kinds import Doomed

_DEAD, _DEAD_WITHIN_S, _REPLAYED_WITHIN_S = 300, 15.0, 30.0
#: Poison stays where it is: to replay it is to kill workers, which other faults do.
_KINDS = ("chaos.doomed", "inventory.reserve", "webhook.deliver", "email.order_confirmed", "email.order_rejected")
_DOOMED = text("SELECT count(*) FROM dead_letters WHERE kind = 'chaos.doomed' AND resolution IS NULL")


@fault("F56", "replay-storm", "callers", (4.0, 8.0))
def replay_everything(scene: Scene) -> Iterator[None]:
    """Two operators replay all dead letters at the same moment, and once more: each takes effect once."""
    enqueue_all(scene, *(Doomed() for _ in range(_DEAD)))
    scene.comes_true(lambda: _dead(scene) == _DEAD, _DEAD_WITHIN_S)
    one, other = (Desk(scene.system.environ, _REPLAYED_WITHIN_S) for _ in range(2))
    with closing(one), closing(other):
        for _ in range(2):
            threads = [
                threading.Thread(target=_replay_all, args=(scene, desk, name), daemon=True)
                for desk, name in ((one, "ann"), (other, "bob"))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        yield


def _dead(scene: Scene) -> int:
    with scene.system.engine.connect() as connection:
        return int(connection.execute(_DOOMED).scalar_one())


def _replay_all(scene: Scene, desk: Desk, operator: str) -> None:
    for kind in _KINDS:
        ended = desk.type("dlq", "replay", "--all", "--kind", kind, "--yes", "--by", operator, "--json")
        if ended.said.startswith("{"):
            replayed = [one["id"] for one in json.loads(ended.said)["done"]]
            for letter_id in replayed:
                scene.history.resolve(letter_id, "replayed")
            scene.fires(len(replayed))
