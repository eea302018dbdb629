"""Acts on many jobs: each runs the product's own function in an open transaction, and names the law it is judged by."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import Connection

from domain.aftermath import cancel, settle
from domain.errors import DeadLetterResolved, InvalidState
from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob, renew_leases, start_if_due
from domain.jobs.dead_letters import discard_if_open, replay_if_open
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of, is_plain, plain_finish_of
from domain.jobs.rescue import take_over_expired
from domain.jobs.retry_now import make_due_now_if_waiting
from domain.jobs.retry_policy import Cancelled, DeadlineExceeded, Ending, Errored, Snoozed, Succeeded
from tests.integration.simulation import life as law
from tests.integration.simulation.life import Life, Outcome

HOUR_S = 3600.0
ENDINGS: dict[str, Ending] = {
    "done": Succeeded(),
    "told": Succeeded({"pages": 3}),
    "failed": Errored("OSError", "the disk is full", retry_after_s=0.0),
    "failed, later": Errored("OSError", "the disk is full", retry_after_s=HOUR_S),
    "hopeless": Errored("PermanentFailure", "no such thing", permanent=True),
    "snoozed": Snoozed(0.0, "too early"),
    "handed back": Snoozed(0.0, "the worker is stopping", handed_back=True),
    "too late": DeadlineExceeded(),
    "gave way": Cancelled(),
}


class Act(Protocol):
    """`run` answers by job id; a job that is missing from the answer is one to which nothing happened."""

    @property
    def ids(self) -> Sequence[UUID]: ...
    def run(self, tx: Connection) -> Mapping[UUID, object]: ...
    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:
        """What may come of it when others are at the same job; the first is what comes of it when nobody is."""
        ...


class Claim:
    """A worker's claim of a bundle, under one lease."""

    def __init__(
        self, ids: Sequence[UUID], *, most_crashes: int | None = law.MOST_CRASHES, silent: bool = False
    ) -> None:
        self.ids, self._most_crashes, self._silent = ids, most_crashes, silent
        self.worker_id, self.lease_id = new_id(), new_id()
        self.jobs: list[ClaimedJob] = []

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        lease_s = -1.0 if self._silent else HOUR_S
        who = {"worker_id": self.worker_id, "lease_id": self.lease_id}
        self.jobs = start_if_due(tx, self.ids, **who, lease_s=lease_s, most_crashes=self._most_crashes)
        return {job.id: job.claim for job in self.jobs}

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:  # noqa: ARG002  # the same for all of them
        yield law.claimed(life, most_crashes=self._most_crashes, silent=self._silent)


class Finish:
    """What the recorder writes for a batch of attempts that ended; some of their claims may be long gone."""

    def __init__(self, ended: Mapping[UUID, tuple[ClaimedJob, str]]) -> None:
        self.ids, self._ended = list(ended), ended

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        finishes = []
        for job, name in self._ended.values():
            ending = ENDINGS[name]
            plain = is_plain(ending)
            finishes.append(plain_finish_of(job) if plain else finish_of(job, ending, decided(job, ending)))
        return {job.id: job.state for job in settle(tx, finishes)}

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:
        job, name = self._ended[job_id]
        yield law.finished(life, job.claim, name)


class Rescue:
    """A rescuer's pass over the leases that ran out. It waits for nobody."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids = ids

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        return {job.id: job.state for job in take_over_expired(tx, limit=1_000)}

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:  # noqa: ARG002  # the same for all of them
        yield law.rescued(life)
        yield None, life  # somebody was at it: the lease keeps it for the next pass


class Cancel:
    """One person after the other cancels these."""

    def __init__(self, ids: Sequence[UUID], tenant_id: UUID) -> None:
        self.ids, self._tenant_id = sorted(ids), tenant_id

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        return {job_id: self._cancel(tx, job_id) for job_id in self.ids}

    def _cancel(self, tx: Connection, job_id: UUID) -> str:
        try:
            return "cancelled" if cancel(tx, self._tenant_id, job_id) else "asked"
        except InvalidState:
            return "refused"

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:  # noqa: ARG002  # the same for all of them
        yield law.cancelled(life)


class Resolve:
    """An operator replays or discards the newest dead letter that each of these had when the operator looked."""

    def __init__(self, letters: Mapping[UUID, tuple[int, UUID]], resolution: str, fresh_allowance: int) -> None:
        self.ids, self._letters = sorted(letters), letters
        self._resolution, self._fresh_allowance = resolution, fresh_allowance

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        return {job_id: self._resolve(tx, self._letters[job_id][1]) for job_id in self.ids}

    def _resolve(self, tx: Connection, letter_id: UUID) -> str:
        try:
            (replay_if_open if self._resolution == "replayed" else discard_if_open)(tx, letter_id, "operator")
        except DeadLetterResolved:
            return "refused"
        return "done"

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:
        yield law.resolved(life, self._letters[job_id][0], self._resolution, self._fresh_allowance)


class Hurry:
    """An operator makes these due now."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids = sorted(ids)

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        return {job_id: self._hurry(tx, job_id) for job_id in self.ids}

    def _hurry(self, tx: Connection, job_id: UUID) -> str:
        try:
            make_due_now_if_waiting(tx, job_id, "operator")
        except InvalidState:
            return "refused"
        return "done"

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:  # noqa: ARG002  # the same for all of them
        yield law.hurried(life)


class Renew:
    """The holder of a claim speaks, or its lease runs out: in both cases the same statement, with another length."""

    def __init__(self, of: Claim, *, silent: bool) -> None:
        self.ids, self._of, self._silent = of.ids, of, silent
        self._claims = {job.id: job.claim for job in of.jobs}

    def run(self, tx: Connection) -> Mapping[UUID, object]:
        renew_leases(tx, self._of.worker_id, [self._of.lease_id], [], -1.0 if self._silent else HOUR_S)
        return {}

    def outcomes(self, job_id: UUID, life: Life) -> Iterator[Outcome]:
        holds = life.state == "running" and self._claims.get(job_id) == life.claim
        yield None, life._replace(is_silent=self._silent) if holds else life
