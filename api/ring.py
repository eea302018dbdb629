"""What callers show, looked up in PostgreSQL and remembered for a few seconds. What may be a guess is not remembered
when it is nobody's; whose tenant is suspended, and whose log-in has ended, is.
"""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Engine

from domain.errors import DependencyUnavailable, TenantSuspended, Unauthenticated
from domain.tenants.callers import Caller

#: What was revoked or has expired still opens for this long: the price of not asking PostgreSQL on every request.
REMEMBER_S = 5.0
_MOST_REMEMBERED = 10_000
#: A frozen PostgreSQL answers nothing, not even an error.
LOOK_UP_WITHIN_S = 2.0

Mark = TypeVar("Mark", bound=Hashable)
Answer = TypeVar("Answer")
_Refusal = type[TenantSuspended] | type[Unauthenticated]


class Ring(Generic[Mark]):
    """Callers by the mark of what they have shown."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[Mark, tuple[float, Caller | _Refusal]] = {}

    def remembered(self, mark: Mark) -> Caller | None:
        """Who it was a moment ago. Raises what he was turned away with then."""
        known = self._known.get(mark)
        if known is None or time.monotonic() - known[0] >= REMEMBER_S:
            return None
        if isinstance(known[1], Caller):
            return known[1]
        raise known[1]

    def knows(self, mark: Mark) -> bool:
        """Whether it was somebody when it was looked up last, however long ago: no guess."""
        return mark in self._known

    async def look_up(self, mark: Mark, find: Callable[[], Caller | None]) -> Caller:
        """Who it is now.

        Raises Unauthenticated, what `find` raises, which is remembered if it says that he may not come in, and
        DependencyUnavailable when nobody can tell in time.
        """
        try:
            found = await in_time(find)
        except (TenantSuspended, Unauthenticated) as refusal:
            self._remember(mark, type(refusal))
            raise
        if found is None:
            self.forget(mark)
            raise Unauthenticated
        self._remember(mark, found)
        return found

    def _remember(self, mark: Mark, found: Caller | _Refusal) -> None:
        self.forget(mark)
        if len(self._known) >= _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]  # looked up longest ago
        self._known[mark] = (time.monotonic(), found)

    def forget(self, mark: Mark) -> None:
        """The next time it is looked up, as if for the first time."""
        self._known.pop(mark, None)


async def in_time(ask: Callable[[], Answer]) -> Answer:
    """What the database says, asked in a thread. Raises DependencyUnavailable after two seconds of silence."""
    try:
        with anyio.fail_after(LOOK_UP_WITHIN_S):
            return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except TimeoutError:
        raise DependencyUnavailable from None
