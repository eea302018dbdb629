"""The bell that wakes the relay: what whoever committed new obligations says, and what the relay makes of it.

A bell may carry a hint: which jobs are due now. On an idle system the relay rings them without looking. Like every bell
it may be lost, doubled or forged: the outbox row is what counts, and the claim decides.
"""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec

from domain.jobs.outbox import NewJob

#: Where in Redis the bell hangs; it holds at most so many wake-ups.
RELAY_BELL = "longshore:relay"
MOST_RELAY_BELLS = 16

#: A hint is for a few jobs on a quiet system; many find their relay awake.
MOST_IN_HINT = 16
#: In bytes. Whoever can write to Redis can write a bell: one that is longer than ours ever are is not read.
_LONGEST_BELL = 4_096


class Hint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Jobs of one kind and tenant, without a lane, that were due when they were committed."""

    queue: str
    kind: str
    tenant_id: UUID
    job_ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=MOST_IN_HINT)]


_DECODER = msgspec.json.Decoder(Hint)


def hint_of(jobs: Sequence[NewJob]) -> Hint | None:
    """The hint for these jobs; None when they are many, of several flows, in a lane, or not due yet."""
    if any(job.due_at or job.lane for job in jobs) or len({(job.queue, job.kind) for job in jobs}) != 1:
        return None
    return hint_for(jobs[0].queue, jobs[0].kind, [(job.tenant_id, job.id) for job in jobs])


def hint_for(queue: str, kind: str, made: Sequence[tuple[UUID, UUID]]) -> Hint | None:
    """The hint for these (tenant id, job id) pairs of a kind; None when they are many or of several tenants."""
    tenants = {tenant_id for tenant_id, _ in made}
    if len(tenants) != 1 or len(made) > MOST_IN_HINT:
        return None
    return Hint(queue, kind, tenants.pop(), [job_id for _, job_id in made])


def relay_bell(hint: Hint | None = None) -> bytes:
    """The bell as it lies in Redis."""
    return msgspec.json.encode(hint)


def hint_in(bell: bytes) -> Hint | None:
    """What a bell says, if it is a hint as `hint_for` gives them."""
    try:
        return _DECODER.decode(bell) if len(bell) <= _LONGEST_BELL else None
    except msgspec.MsgspecError:
        return None
