"""What callers show, looked up in PostgreSQL and remembered for a few seconds. Who is not known is not remembered."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Engine

from domain.errors import DependencyUnavailable, Unauthenticated
from domain.tenants.callers import Caller

#: What was revoked or has expired still opens for this long: the price of not asking PostgreSQL on every request.
REMEMBER_S = 5.0
_MOST_REMEMBERED = 10_000
#: A frozen PostgreSQL answers nothing, not even an error.
_LOOK_UP_WITHIN_S = 2.0

Mark = TypeVar("Mark", bound=Hashable)
Answer = TypeVar("Answer")


class Ring(Generic[Mark]):
    """Callers by the mark of what they have shown."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[Mark, tuple[float, Caller]] = {}

    def remembered(self, mark: Mark) -> Caller | None:
        """Who it was a moment ago."""
        known = self._known.get(mark)
        return known[1] if known is not None and time.monotonic() - known[0] < REMEMBER_S else None

    async def look_up(self, mark: Mark, find: Callable[[], Caller | None], may_ask: Callable[[], None]) -> Caller:
        """Who it is now. Raises Unauthenticated, DependencyUnavailable when nobody can tell in time, and what `may_ask`
        raises for those who have failed too often.
        """
        may_ask()
        found = await in_time(find)
        if found is None:
            self.forget(mark)
            raise Unauthenticated
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[mark] = (time.monotonic(), found)
        return found

    def forget(self, mark: Mark) -> None:
        """The next time it is looked up."""
        self._known.pop(mark, None)


async def in_time(ask: Callable[[], Answer]) -> Answer:
    """What the database says, asked in a thread. Raises DependencyUnavailable after two seconds of silence."""
    try:
        with anyio.fail_after(_LOOK_UP_WITHIN_S):
            return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except TimeoutError:
        raise DependencyUnavailable from None
