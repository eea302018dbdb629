"""The faults of a plan, each in its time, on a thread of its own."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress

from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from ops.chaos.faults import FAULTS, Scene
from ops.chaos.history import History
from ops.chaos.plan import Planned
from ops.chaos.system import ChaosFailed, System

Say = Callable[[str], None]

#: On a busy machine operators who type hundreds of replays take minutes.
_HEALED_WITHIN_S = 240.0


def strike_all(
    running: System, history: History, tenant_id: str, planned: Sequence[Planned], seed: int, began: float, say: Say
) -> None:
    """Each has its turn on the stage of the history, and is healed when this returns. Raises ChaosFailed when not."""
    broken: list[str] = []
    touching: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def strike(number: int, one: Planned) -> None:
        scene = Scene(running, history, tenant_id, random.Random(f"{seed} {number}"))  # noqa: S311
        touches, harm = FAULTS[one.name].touches, contextmanager(FAULTS[one.name].harm)(scene)
        try:
            # To heal may take longer than planned: the next harm to the same thing waits for it.
            with touching[touches], history.stage.standing(one.name, touches) as scene.turn, ExitStack() as standing:
                with suppress(DBAPIError, RedisError):  # what it would harm is harmed already: it has not fired
                    standing.enter_context(harm)
                time.sleep(one.lasts_s)
        except Exception as error:  # noqa: BLE001  # a fault that cannot be undone voids the run
            broken.append(f"{one.name}: {type(error).__name__}: {error}")

    threads = []
    for number, one in enumerate(planned):
        time.sleep(max(0.0, began + one.at_s - time.monotonic()))
        say(f"{one.at_s:6.1f} s  {one.name} for {one.lasts_s:.1f} s")
        threads.append(threading.Thread(target=strike, args=(number, one), daemon=True))
        threads[-1].start()
    for thread, one in zip(threads, planned, strict=True):
        thread.join(_HEALED_WITHIN_S)
        if thread.is_alive():
            broken.append(f"{one.name}: not healed within {_HEALED_WITHIN_S:g} s")
    if broken:
        raise ChaosFailed("; ".join(broken))
