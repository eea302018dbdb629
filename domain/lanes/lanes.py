"""The lanes in PostgreSQL: opened with their dependency, moved by what its jobs report."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.database import database_time
from domain.lanes.lane_rules import FULL_ROOM, Lane, Observation, observed, room_of

#: The mail server is one dependency for everybody: it gets more room than one subscriber's endpoint.
SMTP = "smtp"
SMTP_ROOM = 500

_OPEN = text("INSERT INTO lanes (name, queue, room) VALUES (:name, :queue, :room) ON CONFLICT (name) DO NOTHING")
_CLOSE = text("UPDATE lanes SET state = 'disabled', parked_until = NULL WHERE name = :name")
_RENEW = text(
    """
    UPDATE lanes SET state = 'healthy', parked_until = NULL, failures = 0, latency_ms = 0, room = :room
     WHERE name = :name AND (state = 'disabled') = :is_disabled
    """
)
_DROP = text("DELETE FROM lanes WHERE name = :name")
_LOCK = text(
    """
    SELECT name, state, parked_until, failures, latency_ms FROM lanes
     WHERE name = ANY(CAST(:names AS text[])) ORDER BY name FOR UPDATE
    """
)
_MOVE = text(
    """
    UPDATE lanes SET state = t.state, parked_until = t.parked_until, failures = t.failures, latency_ms = t.latency_ms,
           room = t.room, in_flight = greatest(0, in_flight - t.ended)
      FROM unnest(CAST(:name AS text[]), CAST(:state AS text[]), CAST(:parked_until AS timestamptz[]),
                  CAST(:failures AS int[]), CAST(:latency_ms AS int[]), CAST(:room AS int[]), CAST(:ended AS int[]))
        AS t(name, state, parked_until, failures, latency_ms, room, ended)
     WHERE lanes.name = t.name
    """
)
_LIST = text(
    """
    SELECT name, queue, state, parked_until, failures, latency_ms, room, in_flight,
           (SELECT count(*) FROM outbox WHERE lane = name) AS waiting
      FROM lanes ORDER BY array_position(ARRAY['disabled', 'parked', 'slow', 'healthy'], state), name
    """
)
_COUNT = text("SELECT queue, state, count(*) AS lanes FROM lanes GROUP BY queue, state")


def endpoint_lane(endpoint_id: UUID) -> str:
    """The name of a webhook endpoint's lane."""
    return f"endpoint:{endpoint_id}"


def open_lane(tx: Connection, name: str, queue: str, room: int = FULL_ROOM) -> None:
    """A lane of this name exists, healthy if it is new."""
    tx.execute(_OPEN, {"name": name, "queue": queue, "room": room})


def disable_lane(tx: Connection, name: str) -> None:
    """Nothing of this lane is tried until it is opened again."""
    tx.execute(_CLOSE, {"name": name})


def reopen_lane(tx: Connection, name: str, room: int = FULL_ROOM) -> None:
    """A lane that was disabled is as a new one: what waits in it is due as before. Any other stays as it is."""
    tx.execute(_RENEW, {"name": name, "room": room, "is_disabled": True})


def renew_lane(tx: Connection, name: str, room: int = FULL_ROOM) -> None:
    """The dependency is another one now: its lane is as a new one. A disabled one stays so."""
    tx.execute(_RENEW, {"name": name, "room": room, "is_disabled": False})


def drop_lane(tx: Connection, name: str) -> None:
    tx.execute(_DROP, {"name": name})


def move_lanes(tx: Connection, seen: Mapping[str, Sequence[Observation]]) -> None:
    """Each lane is what its ended jobs say, and has their room back. Lanes are locked in name order."""
    now = database_time.now()
    moves = []
    for name, state, parked_until, failures, latency_ms in tx.execute(_LOCK, {"names": sorted(seen)}):
        lane = Lane(state, parked_until, failures, latency_ms)
        for observation in seen[name]:
            lane = observed(lane, observation, now)
        room = room_of(lane.state, SMTP_ROOM if name == SMTP else FULL_ROOM)
        after = msgspec.structs.asdict(lane)
        moves.append({"name": name, **after, "room": room, "ended": len(seen[name])})
    if moves:
        tx.execute(_MOVE, {column: [move[column] for move in moves] for column in moves[0]})


def list_lanes(tx: Connection) -> Sequence[Row[Any]]:
    """Every lane, those in trouble first, with how many jobs wait in it."""
    return tx.execute(_LIST).all()


def count_lanes(tx: Connection) -> dict[tuple[str, str], int]:
    """How many lanes there are, by queue and state: the circuit breakers of the fleet."""
    return {(row.queue, row.state): row.lanes for row in tx.execute(_COUNT)}
