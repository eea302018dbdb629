"""Memory that runs out: in the worker that has the job, and nowhere else."""

from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.chaos.faults import Scene, fault
from ops.chaos.faults.processes import enqueue_all
from ops.chaos.kinds import Glutton, Honest
from ops.chaos.memory import MEBI, confine, release

_ROOM, _MEAL_MIB = 96 * MEBI, 160
_CHOKED = text(
    """
    SELECT count(*) FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
     WHERE j.kind = 'chaos.glutton' AND a.outcome <> 'succeeded' AND a.outcome <> 'handed_back'
    """
)


@fault("F09", "memory", "worker", (3.0, 6.0))
def run_out_of_memory(scene: Scene) -> Iterator[None]:
    """Workers may have 96 MiB more than they have, and a job wants 160: it fails, and its neighbours do not."""
    workers = [pid for name, pid in scene.system.pids.items() if name.startswith("worker")]
    confined = confine(workers, _ROOM)
    before = _choked(scene)
    try:
        enqueue_all(scene, Glutton(_MEAL_MIB), *(Honest(0.05) for _ in range(20)))
        yield
    finally:
        release(confined)
        scene.fires(_choked(scene) - before)


def _choked(scene: Scene) -> int:
    """How often such a job has come to nothing so far."""
    with suppress(DBAPIError), scene.system.engine.connect() as connection:
        return int(connection.execute(_CHOKED).scalar_one())
    return 0
