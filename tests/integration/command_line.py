"""The stage of the command line's tests: one tenant, jobs brought to each state by the domain itself, commands run."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import typer
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from domain.aftermath import settle
from domain.ids import new_id
from domain.job_kinds import GenerateReport, MailOrderConfirmed
from domain.jobs.attempts import ClaimedJob, start_if_due
from domain.jobs.finish import finish_of
from domain.jobs.kind import JobArgs, find_kind
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.retry_policy import Ending, Errored, decide
from domain.tenants.tenants import ensure_tenant

ENVIRON = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SECRET_KEY": base64.b64encode(bytes(32)).decode(),
    "USER": "olga",
    "VISUAL": None,
    "EDITOR": None,
}


@dataclass
class Stage:
    """A migrated database, and commands that run against it."""

    engine: Engine
    database_url: str
    environ: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {**ENVIRON, "DATABASE_URL": self.database_url}
        with self.engine.begin() as tx:
            self.tenant_id = ensure_tenant(tx, "acme")

    def run(self, app: typer.Typer, *words: object, **environ: str) -> Result:
        command = [str(word) for word in words]
        return CliRunner().invoke(app, command, env={**self.environ, **environ}, catch_exceptions=False)

    def json(self, app: typer.Typer, *words: object) -> Any:
        """What a successful command says with --json, which is all it says on stdout."""
        result = self.run(app, *words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def waiting(self, args: JobArgs | None = None, *, in_s: float | None = None, order_id: UUID | None = None) -> UUID:
        due_at = None if in_s is None else datetime.now(UTC) + timedelta(seconds=in_s)
        job = new_job(args or MailOrderConfirmed(new_id()), tenant_id=self.tenant_id, due_at=due_at, order_id=order_id)
        with self.engine.begin() as tx:
            enqueue(tx, [job])
        return job.id

    def running(self, args: JobArgs | None = None) -> ClaimedJob:
        job_id = self.waiting(args)
        with self.engine.begin() as tx:
            (job,) = start_if_due(tx, [job_id], new_id(), lease_s=600)
        return job

    def end(self, job: ClaimedJob, ending: Ending) -> None:
        policy = find_kind(job.kind).retry
        decision = decide(job.attempt, job.max_attempts, ending, policy, datetime.now(UTC), jitter=0.9)
        with self.engine.begin() as tx:
            assert settle(tx, [finish_of(job, ending, decision)])

    def dead(self, message: str = "no such mailbox 7", args: JobArgs | None = None, traceback: str = "") -> UUID:
        """A job that gave up for good. Answers its id."""
        job = self.running(args)
        self.end(job, Errored("PermanentFailure", message, traceback, permanent=True))
        return job.id

    def retrying(self) -> UUID:
        job = self.running(GenerateReport(new_id()))
        self.end(job, Errored("OSError", "the disk is full"))
        return job.id

    def letter_of(self, job_id: UUID) -> UUID:
        found: UUID = self.scalar("SELECT id FROM dead_letters WHERE job_id = :id ORDER BY id DESC LIMIT 1", id=job_id)
        return found

    def dead_letters(self, count: int, message: str = "no such mailbox 7") -> list[UUID]:
        return [self.letter_of(self.dead(message)) for _ in range(count)]

    def state(self, job_id: UUID) -> str:
        found: str = self.scalar("SELECT state FROM jobs WHERE id = :id", id=job_id)
        return found

    def resolutions(self) -> Sequence[str | None]:
        with self.engine.begin() as tx:
            return tx.execute(text("SELECT resolution FROM dead_letters ORDER BY id")).scalars().all()

    def scalar(self, sql: str, **values: object) -> Any:
        with self.engine.begin() as tx:
            return tx.execute(text(sql), values).scalar()
