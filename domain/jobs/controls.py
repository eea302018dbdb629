"""What operators ask of the relay: queues and kinds paused, capped or slowed, tenants suspended. Others run freely.

The relay reads them several times a second; what was rung a moment before still runs.
"""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.audit import record_act
from domain.jobs.attempts import RUNNING_JOBS
from domain.tables.outbox import controls

Scope = Literal["queue", "kind", "tenant"]


class Control(msgspec.Struct, frozen=True):
    """What holds for one queue, kind or tenant (its id). None = no bound. In flight = rung or running."""

    scope: Scope
    name: str
    paused: bool = False
    max_in_flight: int | None = None
    max_in_flight_per_tenant: int | None = None
    starts_per_second: float | None = None

    @property
    def is_capped(self) -> bool:
        return self.max_in_flight is not None or self.max_in_flight_per_tenant is not None


_READ = text(
    """
    SELECT scope, name, paused_at IS NOT NULL, max_in_flight, max_in_flight_per_tenant, starts_per_second
      FROM controls
     UNION ALL SELECT 'tenant', CAST(id AS text), true, NULL, NULL, NULL FROM tenants WHERE status = 'suspended'
     ORDER BY scope DESC, name
    """
)
_PAUSE = text(
    """
    INSERT INTO controls (scope, name, paused_at) VALUES (:scope, :name, clock_timestamp())
        ON CONFLICT (scope, name) DO UPDATE SET paused_at = coalesce(controls.paused_at, excluded.paused_at)
    """
)
_RESUME = text("UPDATE controls SET paused_at = NULL WHERE scope = :scope AND name = :name")
_LIMITS = (controls.c.max_in_flight, controls.c.max_in_flight_per_tenant, controls.c.starts_per_second)
_FORGET = text(
    """
    DELETE FROM controls WHERE paused_at IS NULL AND max_in_flight IS NULL AND max_in_flight_per_tenant IS NULL
       AND starts_per_second IS NULL
    """
)


def read_controls(connection: Connection) -> list[Control]:
    """Every tenant, queue and kind that does not run freely, in this order."""
    return [Control(*row) for row in connection.execute(_READ)]


def pause(tx: Connection, scope: Scope, name: str, by: str, reason: str | None = None) -> None:
    """Nothing of this queue or kind is rung until it is resumed. What runs, runs on. Twice is once."""
    tx.execute(_PAUSE, {"scope": scope, "name": name})
    record_act(tx, None, by, f"{scope}.paused", name, reason)


def resume(tx: Connection, scope: Scope, name: str, by: str, reason: str | None = None) -> None:
    """It runs again, within its limits if it has any."""
    tx.execute(_RESUME, {"scope": scope, "name": name})
    tx.execute(_FORGET)
    record_act(tx, None, by, f"{scope}.resumed", name, reason)


def limit(
    tx: Connection, scope: Scope, name: str, changes: Mapping[str, float | None], by: str, reason: str | None = None
) -> None:
    """These limits of this queue or kind hold; None lifts one. Those not named stay, and so does a pause."""
    limited = upsert(controls).values(scope=scope, name=name, **changes)
    limited = limited.on_conflict_do_update(index_elements=["scope", "name"], set_=changes)
    limits = tx.execute(limited.returning(*_LIMITS)).one()
    tx.execute(_FORGET)
    record_act(tx, None, by, f"{scope}.limited", name, reason, limits._asdict())


_IN_FLIGHT = text(
    f"""
    SELECT queue, kind, tenant_id, count(*) FROM (
           SELECT j.queue, j.kind, j.tenant_id FROM ({RUNNING_JOBS}) AS j
            UNION ALL
           SELECT o.queue, o.kind, o.tenant_id FROM lanes AS l JOIN outbox AS o ON o.lane = l.name
            WHERE l.in_flight > 0 AND o.rings > 0 AND o.due_at > now()) AS in_flight
     GROUP BY 1, 2, 3
    """  # noqa: S608  # constants of ours
)


def stored_in_flight(connection: Connection) -> dict[tuple[str, str, UUID], int]:
    """How many jobs run now, or were rung in a lane, by queue, kind and tenant. Who else was rung the relay knows."""
    return {(queue, kind, tenant): count for queue, kind, tenant, count in connection.execute(_IN_FLIGHT)}
