"""How due rows become bundles: by kind, then by lane, at most as many as the kind takes. Pure."""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

import msgspec

from domain.jobs.kind import KINDS
from domain.jobs.outbox import DueRow

#: For kinds this code does not know; a worker that knows them decides.
DEFAULT_BUNDLE = 100


class Bundle(msgspec.Struct, frozen=True):
    """The job ids of one kind that travel in one doorbell."""

    queue: str
    kind: str
    job_ids: list[UUID]


def bundles_of(rows: Sequence[DueRow]) -> list[Bundle]:
    """Every row in exactly one bundle. Rows that came back from a crash travel alone, so the guilty one is known."""
    alone = [Bundle(row.queue, row.kind, [row.job_id]) for row in rows if row.alone]
    together = sorted((row for row in rows if not row.alone), key=_mates)
    return alone + [
        Bundle(queue, kind, chunk)
        for (queue, kind), mates in groupby(together, key=_mates)
        for chunk in _chunks([row.job_id for row in mates], KINDS[kind].bundle if kind in KINDS else DEFAULT_BUNDLE)
    ]


def _mates(row: DueRow) -> tuple[str, str]:
    return row.queue, row.kind


def _chunks(ids: list[UUID], size: int) -> list[list[UUID]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
