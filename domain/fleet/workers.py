"""Who is alive: every worker, relay, rescuer and scheduler beats its row every 2 s."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from domain.jobs.attempts import RUNNING_JOBS

#: A process silent for this long is shown as lost, and swept from the table after an hour.
LOST_AFTER_S = 10


class Process(msgspec.Struct, frozen=True):
    """One process of the fleet. `role`: worker, relay, rescuer or scheduler."""

    id: UUID
    role: str
    host: str
    pid: int
    queues: list[str]


_BEAT = text(
    """
    INSERT INTO workers (id, role, host, pid, queues) VALUES (:id, :role, :host, :pid, :queues)
        ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()
    """
)
_LEAVE = text("DELETE FROM workers WHERE id = :id")
_SWEEP = text("DELETE FROM workers WHERE beat_at < clock_timestamp() - interval '1 hour'")
_LIST = text(
    f"""
    SELECT w.*, CAST(extract(epoch FROM clock_timestamp() - beat_at) AS float8) AS silent_seconds,
           (SELECT count(*) FROM ({RUNNING_JOBS}) AS held WHERE held.worker_id = w.id) AS running
      FROM workers AS w ORDER BY role, started_at
    """  # noqa: S608  # a constant of ours
)
_LAST_BEATS = text(
    """
    SELECT name, max(beat_at), CAST(min(extract(epoch FROM clock_timestamp() - beat_at)) AS float8)
      FROM (SELECT beat_at, CASE WHEN role = 'worker' THEN 'worker:' || queue ELSE role END AS name
              FROM workers LEFT JOIN LATERAL unnest(queues) AS queue ON true) AS beats
     WHERE name IS NOT NULL GROUP BY name
    """
)


def beat(tx: Connection, process: Process) -> None:
    """The process is alive now, by the database's clock."""
    tx.execute(_BEAT, msgspec.structs.asdict(process))


def leave(tx: Connection, process_id: UUID) -> None:
    """The process has stopped on purpose."""
    tx.execute(_LEAVE, {"id": process_id})


def sweep_lost(tx: Connection) -> int:
    """Rows of processes that fell silent over an hour ago are gone."""
    return tx.execute(_SWEEP).rowcount


def list_processes(tx: Connection) -> Sequence[Row[Any]]:
    """Every process with the seconds since its last beat and how many jobs it runs."""
    return tx.execute(_LIST).all()


def last_beats(tx: Connection) -> dict[str, tuple[datetime, float]]:
    """When each sort of process beat last, and how many seconds ago: by its role, workers as `worker:<queue>`."""
    return {name: (at, silent_s) for name, at, silent_s in tx.execute(_LAST_BEATS)}
