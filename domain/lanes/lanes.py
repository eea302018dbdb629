"""The lanes in PostgreSQL: opened with their dependency, moved by what its jobs report."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from domain.lanes.lane_rules import FULL_ROOM, Lane, Observation, observed, room_of

#: The mail server is one dependency for everybody: it gets more room than one subscriber's endpoint.
SMTP = "smtp"
SMTP_ROOM = 500

_OPEN = text("INSERT INTO lanes (name, queue, room) VALUES (:name, :queue, :room) ON CONFLICT (name) DO NOTHING")
_CLOSE = text("UPDATE lanes SET state = 'disabled', parked_until = NULL WHERE name = :name")
_DROP = text("DELETE FROM lanes WHERE name = :name")
_LOCK = text(
    """
    SELECT name, state, parked_until, failures, latency_ms FROM lanes
     WHERE name = ANY(CAST(:names AS text[])) ORDER BY name FOR UPDATE
    """
)
_MOVE = text(
    """
    UPDATE lanes SET state = :state, parked_until = :parked_until, failures = :failures, latency_ms = :latency_ms,
           room = :room, in_flight = greatest(0, in_flight - :ended)
     WHERE name = :name
    """
)
_LIST = text(
    """
    SELECT name, queue, state, parked_until, failures, latency_ms, room, in_flight,
           (SELECT count(*) FROM outbox WHERE lane = name) AS waiting
      FROM lanes ORDER BY array_position(ARRAY['disabled', 'parked', 'slow', 'healthy'], state), name
    """
)


def endpoint_lane(endpoint_id: UUID) -> str:
    """The name of a webhook endpoint's lane."""
    return f"endpoint:{endpoint_id}"


def open_lane(tx: Connection, name: str, queue: str, room: int = FULL_ROOM) -> None:
    """A lane of this name exists, healthy if it is new."""
    tx.execute(_OPEN, {"name": name, "queue": queue, "room": room})


def disable_lane(tx: Connection, name: str) -> None:
    """Nothing of this lane is tried until it is opened again."""
    tx.execute(_CLOSE, {"name": name})


def drop_lane(tx: Connection, name: str) -> None:
    tx.execute(_DROP, {"name": name})


def move_lanes(tx: Connection, seen: Mapping[str, Sequence[Observation]]) -> None:
    """Each lane is what its ended jobs say, and has their room back. Lanes are locked in name order."""
    now = datetime.now(UTC)
    for name, state, parked_until, failures, latency_ms in tx.execute(_LOCK, {"names": sorted(seen)}).all():
        lane = Lane(state, parked_until, failures, latency_ms)
        for observation in seen[name]:
            lane = observed(lane, observation, now)
        tx.execute(
            _MOVE,
            {
                "name": name,
                "state": lane.state,
                "parked_until": lane.parked_until,
                "failures": lane.failures,
                "latency_ms": lane.latency_ms,
                "room": room_of(lane.state, SMTP_ROOM if name == SMTP else FULL_ROOM),
                "ended": len(seen[name]),
            },
        )


def list_lanes(tx: Connection) -> Sequence[Row[Any]]:
    """Every lane, those in trouble first, with how many jobs wait in it."""
    return tx.execute(_LIST).all()
