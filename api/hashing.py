"""Passwords hashed and checked in threads, few at once: each takes 64 MiB and tens of milliseconds of a processor."""

from functools import partial

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from domain.errors import TooManyPasswords
from domain.tenants.passwords import hash_password, is_password

AT_ONCE = 2
#: Some seconds of work: who would wait longer has left.
MOST_WAITING = 100


class Hashing:
    """The one place of this process where passwords are worked on."""

    def __init__(self) -> None:
        self._room = CapacityLimiter(AT_ONCE)

    async def hash(self, password: str) -> str:
        """As `domain.tenants.passwords`. Raises TooManyPasswords."""
        self.refuse_a_crowd()
        return await run_sync(partial(hash_password, password), limiter=self._room)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """As `domain.tenants.passwords`. Raises TooManyPasswords."""
        self.refuse_a_crowd()
        return await run_sync(partial(is_password, hashed, password), limiter=self._room)

    def refuse_a_crowd(self) -> None:
        """Raises TooManyPasswords when so many wait that another one would be told so."""
        if self._room.statistics().tasks_waiting >= MOST_WAITING:
            raise TooManyPasswords
