"""What the API depends on, asked at most once a second however many probes come."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import anyio
import anyio.to_thread
from msgspec import Struct
from sqlalchemy import Engine, text

from api.relay_bell import RelayBell

_TIMEOUT_S = 1.5
_REMEMBER_S = 1.0


class Check(Struct, frozen=True):
    """Whether something answered, when it was asked, and how long that took."""

    is_ok: bool
    at: datetime
    took_ms: float


class Readiness:
    """`required` are the names of the checks that the API cannot do without; `schema` the migration it needs."""

    def __init__(self, engine: Engine, bell: RelayBell, required: frozenset[str], schema: str | None) -> None:
        self._engine, self._bell, self._required, self._schema = engine, bell, required, schema
        self._checked_at = float("-inf")
        self._checks: dict[str, Check] = {}
        self.stopping = False

    async def checks(self) -> dict[str, Check]:
        """By name: postgresql, redis."""
        if time.monotonic() - self._checked_at > _REMEMBER_S:
            self._checks = {
                "postgresql": await timed(self._database_answers),
                "redis": await timed(self._bell.answers),
            }
            self._checked_at = time.monotonic()
        return self._checks

    def ready(self, checks: dict[str, Check]) -> bool:
        return not self.stopping and all(checks[name].is_ok for name in self._required)

    async def _database_answers(self) -> bool:
        try:
            with anyio.fail_after(_TIMEOUT_S):
                return await anyio.to_thread.run_sync(self._ping, abandon_on_cancel=True)
        except Exception:  # noqa: BLE001  # one wrong byte of a reply is anything from ValueError on
            return False

    def _ping(self) -> bool:
        with self._engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return self._schema is None or found == self._schema


async def timed(answers: Callable[[], Awaitable[bool]]) -> Check:
    """What this question was answered, and in which time."""
    at, started = datetime.now(UTC), time.monotonic()
    is_ok = await answers()
    return Check(is_ok, at, round((time.monotonic() - started) * 1_000, 1))
