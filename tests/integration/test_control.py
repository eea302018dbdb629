"""What is said of a job when it is enqueued holds to its end: deadline, priority, first run, what it leaves behind."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.aftermath import cancel, settle
from domain.database import connect
from domain.errors import InvalidState, NotFound
from domain.event_types import EVENT_TYPES, Event
from domain.ids import new_id
from domain.jobs.dead_letters import replay_if_open
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.priority import reprioritise_if_waiting
from domain.jobs.retry_now import make_due_now_if_waiting
from domain.jobs.retry_policy import Crashed, Ending, Errored, Snoozed, Succeeded
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    claimed,
    declarations,
    emptied_database,
    enqueued,
    eventually,
    execute,
    is_obliged,
    known,
    module_database,
    resources,
    row,
    rows,
    running,
    scalar,
    the_job,
)
from workers.context import JobContext
from workers.executor import Executor
from workers.recorder import Recorder
from workers.registry import handles

HOUR = timedelta(hours=1)

with declarations():

    class Say(JobArgs, kind="test.say", queue="test"):
        word: str

    class Total(JobArgs, kind="test.total", queue="test"):
        pass

    class Said(Event, type="test.said"):
        word: str

    class Echo(JobArgs, kind="test.echo", queue="test", on=Said):
        word: str

    EVENT_TYPES.pop(Said.type)


@pytest.fixture(autouse=True)
def kinds() -> Iterator[None]:
    with known(Say, Total, Echo):
        yield


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture
def worker(engine: Engine, database_url: str) -> Iterator["Worker"]:
    own = connect(database_url, process="worker", pool_size=8, pool_timeout_s=30.0)
    worker = Worker(own)
    yield worker
    worker.stop()
    own.dispose()


class Worker:
    """The inside of one worker process, without broker."""

    def __init__(self, engine: Engine) -> None:
        self.rung = 0
        self.resources = resources(engine)
        self.recorder = Recorder(engine, self.resources.holdings, ring=self.ring)
        self.executor = Executor(self.resources, self.recorder, new_id(), engine)
        self.recorder.start()

    def ring(self) -> None:
        self.rung += 1

    def run(self, kind: str, ids: Sequence[UUID]) -> None:
        self.executor.run_bundle(kind, [job_id.hex for job_id in ids])
        eventually(lambda: not self.resources.holdings)

    def stop(self) -> None:
        assert self.recorder.close(15)
        self.executor.close()


def ended(engine: Engine, job: Any, ending: Ending) -> Any:
    with engine.begin() as tx:
        assert settle(tx, [finish_of(job, ending, decided(job, ending))])
    return the_job(engine, job.id)


def letter_of(engine: Engine, job_id: UUID) -> Any:
    return row(engine, "SELECT * FROM dead_letters WHERE job_id = :id AND resolution IS NULL", id=job_id)


def says(heard: list[str]) -> None:
    @handles(Say)
    def say(args: Say, ctx: JobContext) -> None:
        heard.append(args.word)


class TestDeadline:
    def test_a_job_whose_deadline_has_passed_does_not_run(
        self, engine: Engine, tenant_id: UUID, worker: Worker
    ) -> None:
        heard: list[str] = []
        says(heard)
        (late,) = enqueued(engine, tenant_id, Say("late"), deadline_at=datetime.now(UTC) - HOUR)
        (in_time,) = enqueued(engine, tenant_id, Say("in time"), deadline_at=datetime.now(UTC) + HOUR)
        worker.run("test.say", [late, in_time])
        assert heard == ["in time"]
        assert the_job(engine, in_time).state == "succeeded"
        job, letter = the_job(engine, late), letter_of(engine, late)
        assert (job.state, job.attempt, letter.cause) == ("dead", 0, "deadline")
        assert job.last_error == {
            "class": "DeadlineExceeded",
            "message": "The job's deadline passed before it could run",
        }

    @pytest.mark.parametrize(
        ("ending", "error"),
        [
            (Errored("OSError", "the disk is full", retry_after_s=7200.0), "OSError"),
            (Snoozed(7200.0, "too early"), "Snooze"),
            (Snoozed(7200.0, "the worker is stopping", handed_back=True), "DeadlineExceeded"),
        ],
    )
    def test_a_job_that_could_run_again_only_too_late_is_dead_at_once(
        self, engine: Engine, tenant_id: UUID, ending: Ending, error: str
    ) -> None:
        job = running(engine, tenant_id, Say("x"), deadline_at=datetime.now(UTC) + HOUR)
        found = ended(engine, job, ending)
        assert (found.state, found.last_error["class"]) == ("dead", error)
        assert letter_of(engine, job.id).cause == "deadline"
        assert not is_obliged(engine, job.id)

    def test_a_crash_past_the_deadline_is_the_last(self, engine: Engine, tenant_id: UUID) -> None:
        job = running(engine, tenant_id, Say("x"), deadline_at=datetime.now(UTC) - HOUR)
        found = ended(engine, job, Crashed(1))
        assert (found.state, found.crashes, letter_of(engine, job.id).cause) == ("dead", 1, "deadline")

    def test_a_replay_has_no_deadline(self, engine: Engine, tenant_id: UUID) -> None:
        job = running(engine, tenant_id, Say("x"), deadline_at=datetime.now(UTC) - HOUR)
        ended(engine, job, Crashed(1))
        with engine.begin() as tx:
            replay_if_open(tx, letter_of(engine, job.id).id, by="olga")
        (again,) = claimed(engine, [job.id])
        assert again.deadline_at is None
        assert ended(engine, again, Succeeded()).state == "succeeded"

    def test_a_handler_has_until_its_timeout_or_the_deadline(self, engine: Engine, tenant_id: UUID) -> None:
        def left_s(**more: Any) -> float:
            ctx = JobContext(running(engine, tenant_id, Say("x"), **more), resources(engine), 60.0)
            return ctx.deadline - JobContext(running(engine, tenant_id, Say("x")), resources(engine), 0.0).deadline

        assert 55 < left_s() <= 60
        assert 55 < left_s(deadline_at=datetime.now(UTC) + HOUR) <= 60
        assert 5 < left_s(deadline_at=datetime.now(UTC) + timedelta(seconds=10)) <= 10


class TestWhatAJobLeavesBehind:
    def test_its_events_and_children_inherit_its_deadline(
        self, engine: Engine, tenant_id: UUID, worker: Worker
    ) -> None:
        @handles(Say)
        def say(args: Say, ctx: JobContext) -> None:
            ctx.publish(Said(word=args.word))
            ctx.spawn([Echo(word="a"), Echo(word="b")], then=Total())
            ctx.spawn([Echo(word="c")])

        deadline_at, order_id = datetime.now(UTC) + HOUR, new_id()
        more: dict[str, Any] = {
            "deadline_at": deadline_at,
            "order_id": order_id,
            "trace_context": '{"requestId": "r-1"}',
        }
        worker.run("test.say", enqueued(engine, tenant_id, Say("x"), **more))
        made = rows(engine, "SELECT * FROM jobs WHERE kind <> 'test.say' ORDER BY id")
        assert {job.args.get("word", "total") for job in made} == {"x", "a", "b", "c", "total"}
        assert {job.deadline_at for job in made} == {deadline_at}
        assert {job.trace_context["requestId"] for job in made} == {"r-1"}
        assert {job.order_id for job in made if job.event_id is None} == {order_id}
        assert worker.rung == 1

    def test_children_come_only_with_success(self, engine: Engine, tenant_id: UUID, worker: Worker) -> None:
        @handles(Say)
        def say(args: Say, ctx: JobContext) -> None:
            ctx.spawn([Echo(word=args.word)], then=Total())
            if ctx.attempt == 1:
                raise OSError

        (job_id,) = enqueued(engine, tenant_id, Say("x"))
        worker.run("test.say", [job_id])
        assert scalar(engine, "SELECT count(*) FROM jobs") == 1
        execute(engine, "UPDATE outbox SET due_at = now()")
        worker.run("test.say", [job_id])
        assert scalar(engine, "SELECT count(*) FROM jobs") == 3

    def test_children_commit_with_the_handlers_own_transaction(
        self, engine: Engine, tenant_id: UUID, worker: Worker
    ) -> None:
        @handles(Say)
        def say(args: Say, ctx: JobContext) -> None:
            ctx.spawn([Echo(word=args.word)])
            with ctx.transaction():
                pass

        worker.run("test.say", enqueued(engine, tenant_id, Say("x")))
        assert scalar(engine, "SELECT count(*) FROM jobs WHERE kind = 'test.echo'") == 1

    def test_the_job_that_waited_knows_what_became_of_the_others(
        self, engine: Engine, tenant_id: UUID, worker: Worker
    ) -> None:
        told: list[Any] = []

        @handles(Say)
        def say(args: Say, ctx: JobContext) -> None:
            ctx.spawn([Echo(word=word) for word in args.word], then=Total())

        @handles(Echo)
        def echo(args: Echo, ctx: JobContext) -> None:
            assert args.word != "b"

        @handles(Total)
        def total(args: Total, ctx: JobContext) -> None:
            told.append(ctx.children)

        worker.run("test.say", enqueued(engine, tenant_id, Say("abc")))
        execute(engine, "UPDATE jobs SET max_attempts = 1 WHERE kind = 'test.echo'")
        echoes = [found.id for found in rows(engine, "SELECT id FROM jobs WHERE kind = 'test.echo'")]
        rung = worker.rung
        worker.run("test.echo", echoes)
        assert worker.rung > rung
        worker.run("test.total", [scalar(engine, "SELECT id FROM jobs WHERE kind = 'test.total'")])
        (children,) = told
        assert (children.total, children.succeeded, children.dead, children.waiting) == (3, 2, 1, 0)


class TestPriority:
    def test_a_job_and_its_obligation_have_the_priority_that_was_said(self, engine: Engine, tenant_id: UUID) -> None:
        (job_id,) = enqueued(engine, tenant_id, Say("x"), priority=2)
        assert (the_job(engine, job_id).priority, obligation(engine, job_id).priority) == (2, 2)

    def test_the_scale_is_kept_by_the_database_too(self, engine: Engine, tenant_id: UUID) -> None:
        (job_id,) = enqueued(engine, tenant_id, Say("x"))
        with pytest.raises(Exception, match="ck_jobs_priority"):
            execute(engine, "UPDATE jobs SET priority = 3 WHERE id = :id", id=job_id)

    def test_a_waiting_job_can_be_moved_and_its_retries_keep_the_place(self, engine: Engine, tenant_id: UUID) -> None:
        (job_id,) = enqueued(engine, tenant_id, Say("x"))
        with engine.begin() as tx:
            reprioritise_if_waiting(tx, job_id, -2, by="olga", reason="noisy")
        assert (the_job(engine, job_id).priority, obligation(engine, job_id).priority) == (-2, -2)
        ended(engine, claimed(engine, [job_id])[0], Errored("OSError", "the disk is full"))
        assert obligation(engine, job_id).priority == -2
        act = row(engine, "SELECT * FROM audit_log")
        assert (act.action, act.actor, act.reason, act.detail) == (
            "job.reprioritised",
            "olga",
            "noisy",
            {"priority": -2},
        )

    def test_a_job_that_runs_or_has_ended_stays_as_it_is(self, engine: Engine, tenant_id: UUID) -> None:
        runs, done = (running(engine, tenant_id, Say("x")) for _ in range(2))
        ended(engine, done, Succeeded())
        for job in (runs, done):
            with pytest.raises(InvalidState), engine.begin() as tx:
                reprioritise_if_waiting(tx, job.id, 1, by="olga")
        with pytest.raises(NotFound), engine.begin() as tx:
            reprioritise_if_waiting(tx, new_id(), 1, by="olga")
        with pytest.raises(ValueError, match="from -2 to 2"), engine.begin() as tx:
            reprioritise_if_waiting(tx, runs.id, 3, by="olga")
        assert scalar(engine, "SELECT count(*) FROM audit_log") == 0


def obligation(engine: Engine, job_id: UUID) -> Any:
    return row(engine, "SELECT * FROM outbox WHERE job_id = :id", id=job_id)


class TestFirstRunInTheFuture:
    @pytest.fixture
    def later(self, engine: Engine, tenant_id: UUID) -> UUID:
        (job_id,) = enqueued(engine, tenant_id, Say("later"), due_in_s=3600)
        assert the_job(engine, job_id).state == "scheduled"
        assert obligation(engine, job_id).due_at == the_job(engine, job_id).due_at
        return job_id

    def test_it_does_not_start_before_its_time_even_when_its_bell_rings(self, engine: Engine, later: UUID) -> None:
        assert claimed(engine, [later]) == []
        execute(engine, "UPDATE outbox SET due_at = clock_timestamp() WHERE job_id = :id", id=later)
        assert [job.id for job in claimed(engine, [later])] == [later]

    def test_it_can_be_cancelled(self, engine: Engine, tenant_id: UUID, later: UUID) -> None:
        with engine.begin() as tx:
            assert cancel(tx, tenant_id, later)
        assert the_job(engine, later).state == "cancelled"
        assert not is_obliged(engine, later)

    def test_it_can_be_hurried(self, engine: Engine, later: UUID) -> None:
        with engine.begin() as tx:
            make_due_now_if_waiting(tx, later, by="olga")
        assert [job.id for job in claimed(engine, [later])] == [later]

    def test_a_time_in_the_past_is_now(self, engine: Engine, tenant_id: UUID) -> None:
        job = new_job(Say("x"), tenant_id=tenant_id, due_at=datetime.now(UTC) - HOUR)
        with engine.begin() as tx:
            enqueue(tx, [job])
        assert the_job(engine, job.id).state == "queued"
