"""Sessions whose transactions are open at the same time, their steps in any order that is wanted.

Like PostgreSQL's own isolation tester: a step that waits for a lock is left waiting, and the next one is issued.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, Engine, text

_WAITS_FOR_A_LOCK = text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")
_STEP_TAKES_AT_MOST_S = 30.0


class Session:
    """One connection and the thread that uses it."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()
        self._pid = self._connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[Any] | None = None

    def issue(self, step: Callable[[Connection], Any]) -> Future[Any]:
        """The step runs after those issued before."""
        self._last = self._thread.submit(step, self._connection)
        return self._last

    def is_busy(self) -> bool:
        return self._last is not None and not self._last.done()

    def waits_for_a_lock(self, watch: Connection) -> bool:
        return bool(watch.execute(_WAITS_FOR_A_LOCK, {"pid": self._pid}).scalar())

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()


class Stage:
    """Three sessions, and one more connection that watches them."""

    def __init__(self, engine: Engine) -> None:
        self._sessions = [Session(engine) for _ in range(3)]
        self._watch = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._watch.close()

    def play(self, parts: Sequence[tuple[Callable[[Connection], Any], bool]], order: Iterable[int]) -> list[Any]:
        """Part number n acts the first time that `order` names it, and commits (or else rolls back) the second time.

        Answers what each act returned. Raises what any of them raised, when all have ended.
        """
        acted: dict[int, Future[Any]] = {}
        ends = []
        for number in order:
            act, commits = parts[number]
            session = self._sessions[number]
            if number not in acted:
                acted[number] = session.issue(act)
            else:
                ends.append(session.issue(_commit if commits else _roll_back))
            self._until_settled(session)
        for future in [*acted.values(), *ends]:
            future.exception(_STEP_TAKES_AT_MOST_S)
        return [acted[number].result() for number in range(len(parts))]

    def _until_settled(self, session: Session) -> None:
        """The session's steps are done, or the first of them waits for somebody."""
        looks = 0
        while session.is_busy():
            looks += 1
            if looks > 4 and session.waits_for_a_lock(self._watch):
                return
            time.sleep(0.0005)


def _commit(connection: Connection) -> None:
    connection.commit()


def _roll_back(connection: Connection) -> None:
    connection.rollback()


def orders_of(sessions: int, steps: int = 2) -> Iterator[tuple[int, ...]]:
    """Every order of the steps of so many sessions, each session's own in theirs."""

    def rest(left: tuple[int, ...], so_far: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not any(left):
            yield so_far
        for number, steps_left in enumerate(left):
            if steps_left:
                yield from rest((*left[:number], steps_left - 1, *left[number + 1 :]), (*so_far, number))

    return rest((steps,) * sessions, ())
