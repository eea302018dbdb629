"""Word that jobs have changed: what is said on the channel, and what a process that heard it, or did not, reads.

The word is a hint. It may be lost, doubled or forged: whoever hears it reads the rows, and reads them now and then
without having heard anything.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from domain.jobs.groups import CHILDREN_COLUMN
from domain.jobs.partitions import within

CHANNEL = "longshore:jobs"
_ID_BYTES = 16


def pack(job_ids: Iterable[UUID]) -> bytes:
    """The word as it is said: the ids one behind the other, 16 bytes each."""
    return b"".join([job_id.bytes for job_id in job_ids])


def unpack(word: bytes) -> list[bytes]:
    """The ids in a word, as they stand there: most are of no interest, and making a UUID of each would take 20 times
    as long. None in a word of a length that no ids make.
    """
    if len(word) % _ID_BYTES:
        return []
    return [word[at : at + _ID_BYTES] for at in range(0, len(word), _ID_BYTES)]


_CHANGED = f"""
    SELECT j.*, {CHILDREN_COLUMN.format(jobs="j")} AS children FROM jobs AS j
      JOIN unnest(CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:versions AS int[]))
        AS seen(tenant_id, id, version) ON seen.id = j.id AND seen.tenant_id = j.tenant_id
     WHERE j.id {{weeks}} AND j.version > seen.version
    """  # noqa: S608  # constants of ours


def changed_since(tx: Connection, seen: Sequence[tuple[UUID, UUID, int]]) -> Sequence[Row[Any]]:
    """Of these (tenant id, job id, version) triples: the rows of the tenants' own jobs that are past the version."""
    if not seen:
        return []
    tenant_ids, ids, versions = (list(column) for column in zip(*seen, strict=True))
    return tx.execute(within(_CHANGED, ids), {"tenant_ids": tenant_ids, "ids": ids, "versions": versions}).all()
