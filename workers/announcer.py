"""Says over Redis that jobs have changed, for whoever waits for news of them: best effort, never in the way of a job.

`announce` costs a queue's put. One thread does the talking: what gathers while it talks is one word. While Redis is
away, words are dropped, not kept: whoever waits reads the rows without them.
"""

import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from domain.jobs.announcements import CHANNEL, pack
from ops.telemetry import log

logger = log(__name__)

MOST_IDS_PER_WORD = 2_000
#: Between two words: nobody who waits notices it, and a busy worker talks 200 times a second at most.
_PAUSE_S = 0.005
#: After a word that nobody heard: words to nobody would cost a busy worker a tenth of its time.
_UNHEARD_S = 0.25
#: After a word that Redis did not take.
_SILENT_S = 2.0


class Announcer:
    """One per worker process. `announce` from any thread, once the change is committed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue: SimpleQueue[list[UUID]] = SimpleQueue()
        self._silent = False
        self._unheard_until = 0.0
        self._closing = Flag()
        self._thread = Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def announce(self, job_ids: Iterable[UUID]) -> None:
        """These jobs have changed. Never blocks, never raises."""
        if not self._silent and time.monotonic() > self._unheard_until and (ids := list(job_ids)):
            self._queue.put(ids)

    def close(self) -> None:
        """What has been announced is said, unless Redis is away; a Redis that hangs holds up nobody for long."""
        self._closing.set()
        self._queue.put([])
        self._thread.join(1.0)

    def _run(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            if ids := self._gather():
                self._say(ids)
                self._closing.wait(_PAUSE_S)

    def _gather(self) -> list[UUID]:
        ids = self._queue.get()
        try:
            while len(ids) < MOST_IDS_PER_WORD:
                ids += self._queue.get_nowait()
        except Empty:
            pass
        return ids

    def _say(self, ids: list[UUID]) -> None:
        try:
            if not self._redis.publish(CHANNEL, pack(ids)):
                self._unheard_until = time.monotonic() + _UNHEARD_S
        except Exception as error:  # noqa: BLE001  # whatever it is: jobs go on, and so does this thread
            logger.warning("announcer.silent", error=type(error).__name__)
            self._fall_silent()

    def _fall_silent(self) -> None:
        """Until Redis answers again: nothing is queued, and nobody waits for its timeouts but this thread."""
        self._silent = True
        self._forget()
        while not self._closing.wait(_SILENT_S):
            try:
                self._redis.ping()
            except RedisError:
                continue
            logger.info("announcer.speaks_again")
            break
        self._forget()
        self._silent = False

    def _forget(self) -> None:
        while not self._queue.empty():
            self._queue.get()
