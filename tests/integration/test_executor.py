"""The executor on a real database: each job ends as its handler ended it, by itself, whatever its mates do."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from domain import database
from domain.database import connect
from domain.event_types import OrderCancelled, OrderFailed
from domain.fleet.workers import Process
from domain.ids import new_id
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.rescue import take_over_expired
from domain.jobs.retry_policy import Backoff, DependencyDown, PermanentFailure, RetryLater, Snooze, Succeeded
from domain.lanes.lanes import open_lane
from domain.stored_json import LARGEST
from ops.telemetry import JOB_ERRORS
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    claimed,
    declarations,
    emptied_database,
    enqueued,
    eventually,
    execute,
    known,
    make_due,
    module_database,
    resources,
    row,
    rows,
    scalar,
    the_job,
)
from workers.context import BundleContext, JobContext
from workers.executor import Executor
from workers.handlers.webhooks import DeliveryFailed
from workers.holdings import Holdings
from workers.recorder import Recorder, write_outcomes
from workers.registry import handles, handles_bulk
from workers.vitals import Vitals

with declarations():  # known while a test of this module runs, see `kinds`

    class Say(JobArgs, kind="test.say", queue="test", retry=Backoff(max_attempts=3), timeout=30.0):
        """What most tests run."""

        word: str

    class Hurry(JobArgs, kind="test.hurry", queue="test", retry=Backoff(max_attempts=3), timeout=0.3):
        """A kind whose time is soon up."""

        word: str

    class Steady(JobArgs, kind="test.steady", queue="test", retry=Backoff(max_attempts=3), timeout=1.0):
        """Takes some time for each."""

        word: str

    class Picky(JobArgs, kind="test.picky", queue="test", retry=Backoff(max_attempts=3)):
        """Looks at what it is given, and stumbles over some of it."""

        word: str

        def __post_init__(self) -> None:
            if self.word == "leaves":
                sys.exit()
            {"good": 1, "good too": 2}[self.word]


class Fleet:
    """The inside of one worker process, without broker."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tenant_id = engine, a_tenant(engine)
        self.resources, self.stopped = resources(engine), False
        self.holdings: Holdings = self.resources.holdings
        self.recorder = Recorder(engine, self.holdings, ring=lambda: None)
        process = Process(new_id(), "worker", "test", 1, ["test"])
        self.executor = Executor(self.resources, self.recorder, process.id, claims=engine)
        self.left = threading.Event()
        self.vitals = Vitals(engine, process, self.executor, threads=2, leave=self.left.set)

    def start(self) -> None:
        self.recorder.start()
        execute(self.engine, "DROP TABLE IF EXISTS effects")
        execute(self.engine, "CREATE TABLE effects (word text UNIQUE)")

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            assert self.recorder.close(15)
            self.executor.close()

    def ring(self, ids: Sequence[UUID], kind: str = "test.say") -> None:
        """The bell of this bundle is heard, and every outcome written."""
        self.executor.run_bundle(kind, [job_id.hex for job_id in ids])
        eventually(lambda: not self.holdings)

    def run(self, *payloads: JobArgs, lane: str | None = None) -> list[Any]:
        """These jobs travel in one bundle. Answers their rows after it."""
        ids = enqueued(self.engine, self.tenant_id, *payloads, lane=lane)
        self.ring(ids, payloads[0].kind.name)  # type: ignore[attr-defined]
        return [the_job(self.engine, job_id) for job_id in ids]

    def say(self, *words: str) -> list[Any]:
        return self.run(*(Say(word) for word in words))

    def effects(self) -> set[str]:
        return {word for (word,) in rows(self.engine, "SELECT word FROM effects")}

    def outcomes(self) -> list[tuple[str, str | None]]:
        return [
            tuple(found)
            for found in rows(self.engine, "SELECT outcome, error_class FROM attempts ORDER BY job_id, claim")
        ]


@pytest.fixture
def kinds() -> Iterator[None]:
    with known(Say, Hurry, Steady, Picky):
        yield


@pytest.fixture
def fleet(engine: Engine, database_url: str, kinds: None) -> Iterator[Fleet]:
    own = connect(database_url, process="worker", pool_size=8, pool_timeout_s=30.0)
    fleet = Fleet(own)
    fleet.start()
    yield fleet
    fleet.stop()
    own.dispose()


def states(jobs: Sequence[Any]) -> list[str]:
    return [job.state for job in jobs]


def write(ctx: JobContext, word: str) -> None:
    """An effect that commits with the success of the job."""
    with ctx.transaction() as tx:
        tx.execute(text("INSERT INTO effects VALUES (:word)"), {"word": word})


def plain(act: Callable[[str, JobContext], Any], payload: type[JobArgs] = Say) -> None:
    @handles(payload)
    def handler(args: Any, ctx: JobContext) -> Any:
        return act(args.word, ctx)


def in_the_loop(act: Callable[[str, JobContext], Any], payload: type[JobArgs] = Say) -> None:
    @handles(payload)
    async def handler(args: Any, ctx: JobContext) -> Any:
        return act(args.word, ctx)


def in_bulk(act: Callable[[str], Any]) -> None:
    @handles_bulk(Say)
    def handler(bundle: BundleContext[Say]) -> None:
        with bundle.transaction() as (tx, mates):
            for mate in mates:
                tx.execute(text("INSERT INTO effects VALUES (:word)"), {"word": mate.args.word})
                mate.succeed(act(mate.args.word))


def fail(error: BaseException) -> Any:
    raise error


# ---- the three modes


def test_a_plain_handler_gets_one_job_at_a_time_and_its_answer_is_the_result(fleet: Fleet) -> None:
    plain(lambda word, ctx: {"said": word, "attempt": ctx.attempt, "id": str(ctx.job_id)})
    jobs = fleet.say("one", "two")
    assert states(jobs) == ["succeeded", "succeeded"]
    assert [job.result for job in jobs] == [
        {"said": word, "attempt": 1, "id": str(job.id)} for word, job in zip(("one", "two"), jobs, strict=True)
    ]
    assert fleet.outcomes() == [("succeeded", None)] * 2


def test_the_jobs_of_an_async_bundle_run_concurrently(fleet: Fleet) -> None:
    # Given a handler that returns when three of its kind run
    gate = asyncio.Barrier(3)

    @handles(Say)
    async def meet(args: Say, ctx: JobContext) -> str:
        async with asyncio.timeout(10):
            await gate.wait()
        return await ctx.in_thread(lambda tx: str(tx.execute(text("SELECT 'met'")).scalar_one()))

    jobs = fleet.say("one", "two", "three")
    assert [(job.state, job.result) for job in jobs] == [("succeeded", "met")] * 3


def test_a_bulk_handler_gets_the_whole_bundle_in_one_call_and_one_transaction(fleet: Fleet) -> None:
    calls = []

    @handles_bulk(Say)
    def handler(bundle: BundleContext[Say]) -> None:
        with bundle.transaction() as (tx, mates):
            calls.append(tx.execute(text("SELECT pg_current_xact_id()::text")).scalar_one())
            for mate in mates:
                mate.succeed(mate.args.word)

    jobs = fleet.say("one", "two", "three")
    assert [job.result for job in jobs] == ["one", "two", "three"]
    assert len(calls) == 1
    assert {found for (found,) in rows(fleet.engine, "SELECT xmin::text FROM attempts")} == {calls[0]}


@pytest.mark.parametrize("mode", [plain, in_the_loop])
def test_a_failing_mate_costs_nothing(fleet: Fleet, mode: Callable[..., None]) -> None:
    mode(lambda word, _ctx: fail(LookupError("no such word")) if word == "bad" else word)
    jobs = fleet.say("good", "bad", "better")
    assert states(jobs) == ["succeeded", "retrying", "succeeded"]
    assert jobs[1].last_error == {"class": "LookupError", "message": "no such word"}
    detail = scalar(fleet.engine, "SELECT detail FROM attempts WHERE error_class IS NOT NULL")
    assert "raise error" in detail["traceback"]


def test_a_bulk_bundle_with_one_poison_job_is_split_and_only_that_one_fails(fleet: Fleet) -> None:
    in_bulk(lambda word: fail(PermanentFailure("poison")) if word == "poison" else word)
    jobs = fleet.say("one", "poison", "two")
    assert states(jobs) == ["succeeded", "dead", "succeeded"]
    assert fleet.effects() == {"one", "two"}
    assert sorted(fleet.outcomes()) == [("dead", "PermanentFailure"), ("succeeded", None), ("succeeded", None)]


def test_a_bulk_transaction_that_lost_a_race_is_tried_again_without_costing_an_attempt(fleet: Fleet) -> None:
    tries = []

    @handles_bulk(Say)
    def handler(bundle: BundleContext[Say]) -> None:
        with bundle.transaction() as (tx, _):
            tries.append(1)
            if len(tries) < 3:
                tx.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))

    with capture_logs() as said:
        assert [(job.state, job.attempt) for job in fleet.say("one", "two")] == [("succeeded", 1)] * 2
    assert len(tries) == 3
    assert [line["sqlstate"] for line in said if line["event"] == "transaction.retried"] == ["40001", "40001"]


def test_a_bulk_bundle_leaves_alone_what_was_taken_over_meanwhile(fleet: Fleet) -> None:
    @handles_bulk(Say)
    def handler(bundle: BundleContext[Say]) -> None:
        execute(fleet.engine, "UPDATE jobs SET claim = 2 WHERE args ->> 'word' = 'lost'")
        with bundle.transaction() as (tx, mates):
            for mate in mates:
                tx.execute(text("INSERT INTO effects VALUES (:word)"), {"word": mate.args.word})

    with capture_logs() as said:
        assert states(fleet.say("mine", "lost")) == ["succeeded", "running"]
    assert fleet.effects() == {"mine"}
    assert [line["jobs"] for line in said if line["event"] == "finish.refused"] == [1]


# ---- the claim


def test_a_doubled_bell_runs_nothing(fleet: Fleet) -> None:
    seen: list[str] = []
    plain(lambda word, _ctx: seen.append(word))
    with capture_logs() as said:
        (job,) = fleet.say("once")
        assert not [line for line in said if line["event"] == "bell.duplicate"]
        fleet.ring([job.id])
    assert seen == ["once"]
    assert [line["jobs"] for line in said if line["event"] == "bell.duplicate"] == [1]


def test_a_forged_bell_of_mixed_kinds_runs_each_job_as_what_it_is(fleet: Fleet) -> None:
    plain(lambda word, _ctx: f"said {word}")
    plain(lambda word, _ctx: f"hurried {word}", Hurry)
    jobs = fleet.run(Say("a"), Hurry("b"))
    assert [job.result for job in jobs] == ["said a", "hurried b"]


def test_a_worker_that_is_stopping_claims_nothing(fleet: Fleet) -> None:
    plain(lambda word, _ctx: word)
    fleet.executor.stopping = True
    assert states(fleet.say("late")) == ["queued"]


def test_what_is_held_when_a_worker_stops_goes_back_unused(fleet: Fleet) -> None:
    # Given a bundle whose first job asks the worker to stop
    def stop(word: str, _ctx: JobContext) -> str:
        fleet.executor.stopping = True
        return word

    plain(stop)
    first, second = fleet.say("first", "second")
    assert [(first.state, first.attempt), (second.state, second.attempt)] == [("succeeded", 1), ("queued", 0)]
    assert second.claim == 1
    assert fleet.outcomes() == [("succeeded", None), ("handed_back", None)]


# ---- what cannot be run


def test_a_payload_that_cannot_be_decoded_dies_by_its_attempts_and_its_mates_run(fleet: Fleet) -> None:
    plain(lambda word, _ctx: word)
    good, bad = enqueued(fleet.engine, fleet.tenant_id, Say("good"), Say("bad"))
    execute(fleet.engine, """UPDATE jobs SET args = '{"word": 7}' WHERE id = :id""", id=bad)
    for attempt in (1, 2, 3):
        fleet.ring([good, bad])
        stored = the_job(fleet.engine, bad)
        assert (stored.state, stored.attempt) == ("dead" if attempt == 3 else "retrying", attempt)
        make_due(fleet.engine)
    assert the_job(fleet.engine, good).state == "succeeded"
    letter = row(fleet.engine, "SELECT cause, snapshot FROM dead_letters")
    assert (letter.cause, letter.snapshot["error"]["class"]) == ("attempts", "UndecodablePayload")


@pytest.mark.parametrize("known", [True, False])
def test_a_kind_without_code_waits_visibly_and_dies_visibly(fleet: Fleet, known: bool) -> None:
    job = new_job(Say("hello"), tenant_id=fleet.tenant_id)
    with fleet.engine.begin() as tx:
        enqueue(tx, [job])
    if not known:
        execute(fleet.engine, "UPDATE jobs SET kind = 'newer.kind'")
    states_seen = []
    for _ in range(3):
        fleet.ring([job.id], the_job(fleet.engine, job.id).kind)
        states_seen.append(the_job(fleet.engine, job.id).state)
        make_due(fleet.engine)
    assert states_seen == ["retrying", "retrying", "dead"]
    assert fleet.outcomes()[-1] == ("dead", "UnknownJobKind")


# ---- time


def test_a_job_past_its_time_fails_alone_and_the_mates_behind_it_go_back(fleet: Fleet) -> None:
    # Given a bundle whose first job hangs
    released, ran = threading.Event(), []

    def hang(word: str, _ctx: JobContext) -> str:
        ran.append(word)
        assert released.wait(30)
        return "too late"

    plain(hang, Hurry)
    ids = enqueued(fleet.engine, fleet.tenant_id, *(Hurry(word) for word in ("hangs", "second", "third")))
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.hurry", [job_id.hex for job_id in ids]))
    fleet.vitals.start()
    bundle.start()
    # When its time is up
    eventually(lambda: len(fleet.outcomes()) == 3)
    # Then it has failed, and the others wait for another worker with all their attempts
    jobs = [the_job(fleet.engine, job_id) for job_id in ids]
    assert [(job.state, job.attempt) for job in jobs] == [("retrying", 1), ("queued", 0), ("queued", 0)]
    assert fleet.outcomes() == [("retrying", "TimedOut"), ("handed_back", None), ("handed_back", None)]
    # And what it still does counts for nothing, nor does this thread run the others
    released.set()
    bundle.join(30)
    fleet.vitals.stop()
    assert ran == ["hangs"]
    assert [the_job(fleet.engine, job_id).state for job_id in ids] == ["retrying", "queued", "queued"]


def test_a_worker_leaves_when_half_of_its_threads_do_not_come_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.late_bundles.STUCK_AFTER_S", 0.5)
    released = threading.Event()
    plain(lambda word, _ctx: word if word == "quick" or released.wait(60) else None, Hurry)
    ids = enqueued(fleet.engine, fleet.tenant_id, Hurry("quick"), Hurry("hangs"))
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.hurry", [job_id.hex for job_id in ids]))
    fleet.vitals.start()
    bundle.start()
    assert fleet.left.wait(30)
    # One that comes back after all is not counted any more
    assert fleet.executor.late.stuck() == 1
    released.set()
    bundle.join(30)
    assert fleet.executor.late.stuck() == 0
    fleet.vitals.stop()


def test_a_handler_that_blocks_the_event_loop_does_not_keep_its_process_from_leaving(
    engine: Engine, kinds: None
) -> None:
    fleet, released = Fleet(engine), threading.Event()
    fleet.start()
    in_the_loop(lambda _word, _ctx: released.wait(60))
    (job_id,) = enqueued(engine, fleet.tenant_id, Say("blocks"))
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [job_id.hex]))
    bundle.start()
    eventually(fleet.holdings.running)
    with capture_logs() as said:
        fleet.executor.close()
    assert [line["event"] for line in said] == ["event_loop.stuck"]
    released.set()
    bundle.join(30)
    fleet.stop()


def test_a_job_that_somebody_has_decided_about_neither_starts_nor_is_decided_twice(fleet: Fleet) -> None:
    (job,) = claimed(fleet.engine, enqueued(fleet.engine, fleet.tenant_id, Say("one")))
    fleet.holdings.hold([job], 30.0, new_id())
    assert fleet.holdings.start(job)
    assert [fleet.holdings.decide(job), fleet.holdings.decide(job), fleet.holdings.start(job)] == [True, False, False]
    fleet.holdings.forget([job])


def test_an_async_job_past_its_time_fails_alone(fleet: Fleet) -> None:
    @handles(Hurry)
    async def handler(args: Hurry, ctx: JobContext) -> str:
        if args.word == "hangs":
            await asyncio.Event().wait()
        return args.word

    jobs = fleet.run(Hurry("quick"), Hurry("hangs"), Hurry("quick too"))
    assert states(jobs) == ["succeeded", "retrying", "succeeded"]
    assert jobs[1].last_error["class"] == "TimedOut"


def test_a_late_handler_does_not_let_go_of_the_next_attempt_in_the_same_process(fleet: Fleet) -> None:
    # Given an attempt that was given up while its handler went on, and the next one, which is running here too
    first_may_end, second_runs, second_may_end = threading.Event(), threading.Event(), threading.Event()

    def attempt(_word: str, ctx: JobContext) -> str:
        if ctx.claim == 1:
            assert first_may_end.wait(30)
            with ctx.transaction():
                return "never"
        second_runs.set()
        assert second_may_end.wait(30)
        return "second"

    plain(attempt)
    (job_id,) = enqueued(fleet.engine, fleet.tenant_id, Say("slow"))
    first = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [job_id.hex]))
    first.start()
    eventually(fleet.holdings.running)
    with fleet.engine.begin() as tx:
        tx.execute(text("UPDATE leases SET lease_until = now() - interval '1 second'"))
        assert take_over_expired(tx)
    second = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [job_id.hex]))
    make_due(fleet.engine)
    second.start()
    assert second_runs.wait(30)
    # When the first one wakes up and finds its lease lost
    first_may_end.set()
    first.join(30)
    # Then the second is held as before, and its outcome is recorded
    assert [(job.id, job.claim) for job in fleet.holdings.undecided()] == [(job_id, 2)]
    second_may_end.set()
    second.join(30)
    eventually(lambda: not fleet.holdings)
    assert (the_job(fleet.engine, job_id).state, the_job(fleet.engine, job_id).result) == ("succeeded", "second")


# ---- effects


def test_effects_commit_with_the_success_of_the_job(fleet: Fleet) -> None:
    def act(word: str, ctx: JobContext) -> None:
        ctx.result = {"wrote": word}
        write(ctx, word)

    plain(act)
    (job,) = fleet.say("one")
    assert (job.state, job.result, fleet.effects()) == ("succeeded", {"wrote": "one"}, {"one"})
    assert (
        scalar(
            fleet.engine,
            "SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM effects UNION SELECT xmin FROM attempts)",
        )
        == 1
    )


def test_effects_of_a_failure_are_rolled_back(fleet: Fleet) -> None:
    def act(word: str, ctx: JobContext) -> None:
        with ctx.transaction() as tx:
            tx.execute(text("INSERT INTO effects VALUES (:word)"), {"word": word})
            raise ConnectionError

    plain(act)
    (job,) = fleet.say("one")
    assert (job.state, fleet.effects()) == ("retrying", set())


def test_a_worker_that_lost_its_lease_commits_no_effect_and_records_nothing(fleet: Fleet) -> None:
    def act(word: str, ctx: JobContext) -> None:
        execute(fleet.engine, "UPDATE jobs SET claim = 2")
        write(ctx, word)

    plain(act)
    (job,) = fleet.say("one")
    assert (job.state, job.claim, fleet.effects(), fleet.outcomes()) == ("running", 2, set(), [])


def test_a_transaction_ends_when_its_jobs_time_is_up(fleet: Fleet) -> None:
    # Given a handler whose statement takes longer than its job may
    def act(word: str, ctx: JobContext) -> None:
        with ctx.transaction() as tx:
            tx.execute(text("INSERT INTO effects VALUES (:word)"), {"word": word})
            tx.execute(text("SELECT pg_sleep(5)"))

    plain(act, Hurry)
    # When it runs
    (job,) = fleet.run(Hurry("one"))
    # Then nothing of it stays, and the job is late
    assert (job.state, job.attempt, fleet.effects()) == ("retrying", 1, set())
    assert fleet.outcomes() == [("retrying", "TimedOut")]


def test_a_bulk_transaction_ends_when_its_jobs_time_is_up(fleet: Fleet) -> None:
    @handles_bulk(Hurry)
    def handler(bundle: BundleContext[Hurry]) -> None:
        with bundle.transaction() as (tx, _):
            tx.execute(text("SELECT pg_sleep(5)"))

    assert states(fleet.run(Hurry("one"))) == ["retrying"]
    assert fleet.outcomes() == [("retrying", "TimedOut")]


def test_a_bundle_that_is_too_slow_for_being_large_runs_one_by_one_and_costs_no_attempt(fleet: Fleet) -> None:
    calls = []

    @handles_bulk(Steady)
    def handler(bundle: BundleContext[Steady]) -> None:
        with bundle.transaction() as (tx, mates):
            calls.append(len(mates))
            tx.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 0.3 * len(mates)})

    # When together they take longer than their kind may
    fleet.vitals.start()
    jobs = fleet.run(*(Steady(word) for word in "abcd"))
    # Then they wait for bells of their own, untried
    assert [(job.state, job.attempt) for job in jobs] == [("queued", 0)] * 4
    assert rows(fleet.engine, "SELECT DISTINCT alone FROM outbox") == [(True,)]
    # And one by one they all succeed
    for job in jobs:
        fleet.ring([job.id])
    fleet.vitals.stop()
    jobs = [the_job(fleet.engine, job.id) for job in jobs]
    assert [(job.state, job.attempt) for job in jobs] == [("succeeded", 1)] * 4
    assert fleet.outcomes() == [("handed_back", None), ("succeeded", None)] * 4
    assert calls == [4, 1, 1, 1, 1]


def test_the_watchdog_takes_a_slow_bundle_for_what_postgresql_does(fleet: Fleet) -> None:
    # Given a bulk handler that hangs where PostgreSQL does not see it
    released = threading.Event()

    @handles_bulk(Hurry)
    def handler(bundle: BundleContext[Hurry]) -> None:
        assert released.wait(30)
        with bundle.transaction() as (tx, _):
            tx.execute(text("SELECT 1"))

    ids = enqueued(fleet.engine, fleet.tenant_id, Hurry("one"), Hurry("two"))
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.hurry", [job_id.hex for job_id in ids]))
    fleet.vitals.start()
    bundle.start()
    # When the time of two is up, then they go back; when that of one is, it has failed
    eventually(lambda: fleet.outcomes() == [("handed_back", None)] * 2)
    one_alone = threading.Thread(target=fleet.executor.run_bundle, args=("test.hurry", [ids[0].hex]))
    one_alone.start()
    eventually(lambda: ("retrying", "TimedOut") in fleet.outcomes())
    # And what the handler still does changes nothing
    released.set()
    bundle.join(30)
    one_alone.join(30)
    fleet.vitals.stop()
    assert states([the_job(fleet.engine, job_id) for job_id in ids]) == ["retrying", "queued"]


def test_the_mates_of_a_split_bundle_that_get_no_turn_in_time_go_back(fleet: Fleet) -> None:
    # Given a bundle that breaks, whose jobs by themselves take nearly all of their time
    @handles_bulk(Steady)
    def handler(bundle: BundleContext[Steady]) -> None:
        with bundle.transaction() as (tx, mates):
            if len(mates) > 1:
                raise LookupError
            tx.execute(text("SELECT pg_sleep(0.7)"))

    fleet.vitals.start()
    jobs = fleet.run(*(Steady(word) for word in "abcd"))
    fleet.vitals.stop()
    # Then some run and the others wait, and nobody is taken for late
    assert {job.state for job in jobs} == {"succeeded", "queued"}
    assert [job.attempt for job in jobs] == [int(job.state == "succeeded") for job in jobs]


def test_one_claim_of_a_job_publishes_nothing_for_another(fleet: Fleet) -> None:
    # Given an attempt that had to wait to be recorded, until its job was taken over and done by this same process
    (job_id,) = enqueued(fleet.engine, fleet.tenant_id, Say("one"))
    claims = claimed(fleet.engine, [job_id], lease_s=-1)
    with fleet.engine.begin() as tx:
        take_over_expired(tx)
    make_due(fleet.engine)
    claims += claimed(fleet.engine, [job_id])
    outcomes = []
    for job in claims:
        ctx = JobContext(job, fleet.resources, 30.0)
        ctx.publish(OrderCancelled(order_id=job_id))
        ctx.spawn([Say("child")])
        outcomes.append(ctx.outcome(Succeeded()))
    # When both are recorded at once
    with fleet.engine.begin() as tx:
        write_outcomes(tx, outcomes)
    # Then only the second has happened
    assert scalar(fleet.engine, "SELECT count(*) FROM events") == 1
    assert scalar(fleet.engine, "SELECT count(*) FROM jobs WHERE args ->> 'word' = 'child'") == 1


@pytest.mark.parametrize("succeeds", [True, False])
def test_an_event_is_published_if_and_only_if_the_job_succeeds(fleet: Fleet, succeeds: bool) -> None:
    def act(_word: str, ctx: JobContext) -> None:
        ctx.publish(OrderCancelled(order_id=ctx.job_id))
        if not succeeds:
            raise LookupError

    plain(act)
    (job,) = fleet.say("one")
    published = rows(fleet.engine, "SELECT type, subject FROM events")
    assert published == ([("order.cancelled", job.id)] if succeeds else [])


# ---- what a handler may say


@pytest.mark.parametrize("mode", [plain, in_the_loop])
@pytest.mark.parametrize(
    ("said", "state", "attempt", "outcome"),
    [
        (RetryLater(600.0, "busy"), "retrying", 1, "retrying"),
        (Snooze(600.0, "early"), "queued", 0, "snoozed"),
        (PermanentFailure("never"), "dead", 1, "dead"),
        (DependencyDown("endpoint:1"), "queued", 0, "snoozed"),
        (ValueError("any other"), "retrying", 1, "retrying"),
    ],
)
def test_what_a_handler_says_is_what_happens(
    fleet: Fleet, mode: Callable[..., None], said: Exception, state: str, attempt: int, outcome: str
) -> None:
    mode(lambda _word, _ctx: fail(said))
    (job,) = fleet.say("one")
    assert (job.state, job.attempt, fleet.outcomes()[0][0]) == (state, attempt, outcome)
    if isinstance(said, RetryLater | Snooze):
        assert scalar(fleet.engine, "SELECT due_at > now() + interval '9 minutes' FROM outbox")


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (PermanentFailure("never"), "operational"),
        (RetryLater(600.0, "busy"), "external"),
        (DependencyDown("endpoint:1"), "external"),
        (DeliveryFailed("HTTP 500"), "external"),
        (TimeoutError(), "external"),
        (ConnectionRefusedError(), "external"),
        (LookupError("no such word"), "programming"),
    ],
)
def test_an_error_is_counted_by_whose_fault_it_is_and_ours_is_logged_with_its_stack(
    fleet: Fleet, error: Exception, category: str
) -> None:
    plain(lambda _word, _ctx: fail(error))
    counted = JOB_ERRORS.labels("test.say", category)
    before = counted._value.get()
    with capture_logs() as logs:
        (job,) = fleet.say("one")
    assert counted._value.get() - before == 1
    unforeseen = [(line["job_id"], line["exc_info"]) for line in logs if line["event"] == "job.error_unforeseen"]
    assert unforeseen == ([(str(job.id), error)] if category == "programming" else [])


def test_a_snooze_is_no_error(fleet: Fleet) -> None:
    plain(lambda _word, _ctx: fail(Snooze(600.0, "early")))
    before = sum(sample.value for metric in JOB_ERRORS.collect() for sample in metric.samples)
    fleet.say("one")
    assert sum(sample.value for metric in JOB_ERRORS.collect() for sample in metric.samples) == before


def test_a_dependency_that_is_down_parks_its_lane(fleet: Fleet) -> None:
    with fleet.engine.begin() as tx:
        open_lane(tx, "endpoint:1", "test")
    plain(lambda _word, _ctx: fail(DependencyDown("endpoint:1")))
    fleet.run(Say("one"), lane="endpoint:1")
    lane = row(fleet.engine, "SELECT * FROM lanes WHERE name = 'endpoint:1'")
    assert (lane.state, lane.failures, lane.in_flight) == ("parked", 1, 0)


def test_a_dependency_that_is_down_parks_the_lane_of_a_bulk_handler_and_nobody_asks_it_again(fleet: Fleet) -> None:
    calls = []

    @handles_bulk(Say)
    def handler(_bundle: BundleContext[Say]) -> None:
        calls.append(1)
        raise DependencyDown("erp")

    with fleet.engine.begin() as tx:
        open_lane(tx, "erp", "test")
    assert states(fleet.run(Say("one"), Say("two"), lane="erp")) == ["queued", "queued"]
    assert (scalar(fleet.engine, "SELECT state FROM lanes WHERE name = 'erp'"), len(calls)) == ("parked", 1)


@pytest.mark.parametrize("in_bundles", [False, True])
def test_a_success_in_a_transaction_opens_its_lane_again(fleet: Fleet, in_bundles: bool) -> None:
    if in_bundles:
        in_bulk(lambda word: word)
    else:
        plain(lambda word, ctx: write(ctx, word))
    with fleet.engine.begin() as tx:
        open_lane(tx, "erp", "test")
    execute(fleet.engine, "UPDATE lanes SET state = 'parked', failures = 1, parked_until = now() - interval '1 s'")
    fleet.run(Say("one"), lane="erp")
    assert scalar(fleet.engine, "SELECT state FROM lanes WHERE name = 'erp'") == "healthy"


def test_async_handlers_that_ask_for_their_children_hold_no_connection_while_they_run(
    engine: Engine, database_url: str, kinds: None
) -> None:
    # Given a pool of one connection, and handlers that all run at once and have all asked
    own = connect(database_url, process="worker", pool_size=1, pool_timeout_s=0.5)
    fleet = Fleet(own)
    fleet.recorder = Recorder(engine, fleet.holdings, ring=lambda: None)
    fleet.executor = Executor(fleet.resources, fleet.recorder, new_id(), claims=engine)
    fleet.recorder.start()
    met = asyncio.Barrier(3)

    @handles(Say)
    async def handler(_args: Say, ctx: JobContext) -> int:
        asked = ctx.children.succeeded
        await met.wait()
        return asked

    # Then each gets its answer
    try:
        assert [(job.state, job.result) for job in fleet.say("one", "two", "three")] == [("succeeded", 0)] * 3
    finally:
        fleet.stop()
        own.dispose()


def test_a_job_that_is_asked_to_stop_may_stop(fleet: Fleet) -> None:
    def act(_word: str, ctx: JobContext) -> None:
        fleet.holdings.note_asked_to_stop([ctx.job_id])
        ctx.progress(1, 2)

    plain(act)
    (job,) = fleet.say("one")
    assert (job.state, fleet.outcomes()) == ("cancelled", [("cancelled", "Cancelled")])
    assert job.progress == {"done": 1, "total": 2, "message": ""}


# ---- what cannot be stored

#: "stack depth limit exceeded", an OperationalError.
TOO_DEEP = msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize("mode", [plain, in_the_loop])
@pytest.mark.parametrize(
    "result",
    ["a\x00b", {"key": "\udcff"}, object(), {1j: 2}, "x" * LARGEST],
    ids=["nul", "surrogate", "object", "key", "too large"],
)
def test_a_result_that_cannot_be_stored_is_a_failure_that_says_so(
    fleet: Fleet, mode: Callable[..., None], result: object
) -> None:
    mode(lambda word, _ctx: result if word == "bad" else word)
    jobs = fleet.say("good", "bad", "good too")
    assert states(jobs) == ["succeeded", "dead", "succeeded"]
    assert scalar(fleet.engine, "SELECT snapshot -> 'error' ->> 'class' FROM dead_letters") == "UnstorableOutcome"


def test_what_is_too_much_for_postgresql_fails_its_job_and_no_other(fleet: Fleet) -> None:
    plain(lambda word, _ctx: TOO_DEEP if word == "bad" else word)
    assert states(fleet.say("good", "bad", "good too")) == ["succeeded", "dead", "succeeded"]


@pytest.mark.parametrize("mode", [plain, in_the_loop])
@pytest.mark.parametrize("leaving", [SystemExit(2), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
def test_a_handler_that_leaves_by_the_back_door_has_failed_and_takes_nobody_with_it(
    fleet: Fleet, mode: Callable[..., None], leaving: BaseException
) -> None:
    mode(lambda word, _ctx: fail(leaving) if word == "bad" else word)
    assert states(fleet.say("good", "bad", "good too")) == ["succeeded", "retrying", "succeeded"]
    assert states(fleet.say("afterwards")) == ["succeeded"]
    assert [error for _, error in fleet.outcomes() if error] == [type(leaving).__name__]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise AttributeError("it was never set")


def test_an_error_that_cannot_say_what_it_is_fails_its_job_and_no_other(fleet: Fleet) -> None:
    plain(lambda word, _ctx: fail(Unspeakable()) if word == "bad" else word)
    jobs = fleet.say("bad", "good", "good too")
    assert states(jobs) == ["retrying", "succeeded", "succeeded"]
    assert jobs[0].last_error == {"class": "Unspeakable", "message": ""}


def test_a_bulk_handler_that_opens_no_transaction_has_failed(fleet: Fleet) -> None:
    @handles_bulk(Say)
    def handler(_bundle: BundleContext[Say]) -> None:
        """Does something else."""

    jobs = fleet.say("one", "two")
    assert states(jobs) == ["retrying", "retrying"]
    assert "bundle.transaction()" in jobs[0].last_error["message"]


def test_a_bulk_handler_that_swallows_what_broke_its_transaction_has_failed_and_loses_no_job(fleet: Fleet) -> None:
    @handles_bulk(Say)
    def handler(bundle: BundleContext[Say]) -> None:
        with contextlib.suppress(DBAPIError), bundle.transaction() as (_tx, mates):
            for mate in mates:
                mate.succeed(TOO_DEEP)

    assert states(fleet.say("one", "two")) == ["retrying", "retrying"]


@pytest.mark.parametrize("word", ["bad", "leaves"])
def test_a_payload_that_raises_something_of_its_own_fails_its_job_and_no_other(fleet: Fleet, word: str) -> None:
    plain(lambda word, _ctx: word, Picky)
    ids = enqueued(fleet.engine, fleet.tenant_id, *(Picky("good") for _ in range(3)))
    execute(
        fleet.engine,
        "UPDATE jobs SET args = jsonb_build_object('word', CAST(:word AS text)) WHERE id = :id",
        id=ids[1],
        word=word,
    )
    fleet.ring(ids, "test.picky")
    assert [the_job(fleet.engine, job_id).state for job_id in ids] == ["succeeded", "retrying", "succeeded"]


@pytest.mark.parametrize("said", [Snooze(float("inf")), RetryLater(1e300), Snooze(float("nan"))], ids=str)
def test_a_wait_without_end_is_a_failure_that_says_so(fleet: Fleet, said: Exception) -> None:
    plain(lambda _word, _ctx: fail(said))
    (job,) = fleet.say("one")
    assert (job.state, job.last_error["class"]) == ("dead", "UnstorableOutcome")


@pytest.mark.parametrize("reason", ["a\x00b", "\udcff", "x" * LARGEST], ids=["nul", "surrogate", "too large"])
def test_an_event_that_cannot_be_stored_fails_its_job_and_no_other(fleet: Fleet, reason: str) -> None:
    def act(word: str, ctx: JobContext) -> None:
        ctx.publish(OrderFailed(order_id=ctx.job_id, reason=reason if word == "bad" else word))

    plain(act)
    assert states(fleet.say("good", "bad", "good too")) == ["succeeded", "dead", "succeeded"]
    assert scalar(fleet.engine, "SELECT count(*) FROM events") == 2


def test_an_event_nested_without_end_fails_its_job_and_no_other(fleet: Fleet) -> None:
    endless: list[Any] = []
    endless.append(endless)

    def act(word: str, ctx: JobContext) -> None:
        ctx.publish(OrderFailed(order_id=ctx.job_id, reason=cast("str", endless) if word == "bad" else word))

    plain(act)
    assert states(fleet.say("good", "bad", "good too")) == ["succeeded", "dead", "succeeded"]


def test_a_payload_that_is_too_large_is_refused_where_it_is_made_and_says_how_large_it_is(fleet: Fleet) -> None:
    plain(lambda _word, ctx: ctx.spawn([Say("x" * LARGEST)]))
    (job,) = fleet.say("one")
    assert job.last_error["class"] == "TooLarge"
    assert job.last_error["message"].startswith("the payload of test.say has 262,")


def test_an_error_with_text_that_cannot_be_stored_is_recorded_without_it(fleet: Fleet) -> None:
    plain(lambda _word, _ctx: fail(OSError("a\x00b \udcff")))
    (job,) = fleet.say("one")
    assert (job.state, job.last_error) == ("retrying", {"class": "OSError", "message": "ab ?"})


# ---- outages


def test_an_outcome_survives_the_loss_of_the_connection_that_was_writing_it(fleet: Fleet, engine: Engine) -> None:
    # Given an outcome that waits for a lock while it is being written
    may_end = threading.Event()
    plain(lambda word, _ctx: word if may_end.wait(30) else None)
    (job_id,) = enqueued(engine, fleet.tenant_id, Say("kept"))
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [job_id.hex]))
    bundle.start()
    eventually(fleet.holdings.running)
    with engine.begin() as other:
        other.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
        may_end.set()
        bundle.join(30)
        waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: rows(engine, f"SELECT {waiting}"))
        # When its connection is cut
        assert scalar(engine, f"SELECT pg_terminate_backend(pid) {waiting}")
    # Then it is written over the next one
    eventually(lambda: not fleet.holdings)
    assert (the_job(engine, job_id).state, the_job(engine, job_id).result) == ("succeeded", "kept")


def test_an_outcome_whose_row_somebody_holds_keeps_no_other_waiting(
    fleet: Fleet, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 100)
    impatient = connect(database_url, process="recorder", pool_size=1)
    monkeypatch.setattr(fleet.recorder, "_engine", impatient)
    held, free, late = enqueued(engine, fleet.tenant_id, Say("held"), Say("free"), Say("late"))
    may_go = threading.Event()
    plain(lambda word, _ctx: word if word != "held" or may_go.wait(30) else None)
    bundle = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [held.hex]))
    bundle.start()
    eventually(fleet.holdings.running)
    # When somebody holds the row of a job for as long as it pleases
    with engine.begin() as other:
        other.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": held})
        may_go.set()
        bundle.join(30)
        # Then what ends meanwhile is recorded, again and again
        for job_id in (free, late):
            fleet.executor.run_bundle("test.say", [job_id.hex])
            eventually(lambda job_id=job_id: the_job(engine, job_id).state == "succeeded")  # type: ignore[misc]  # a lambda
        assert the_job(engine, held).state == "running"
    # And that one when its row is free
    eventually(lambda: the_job(engine, held).state == "succeeded")
    eventually(lambda: not fleet.holdings)
    impatient.dispose()


def test_many_outcomes_whose_rows_somebody_holds_keep_no_other_waiting(
    fleet: Fleet, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 1_000)
    impatient = connect(database_url, process="recorder", pool_size=1)
    monkeypatch.setattr(fleet.recorder, "_engine", impatient)
    # Given many jobs that end at once, whose rows somebody holds
    held = enqueued(engine, fleet.tenant_id, *(Say(str(number)) for number in range(12)))
    (free,) = enqueued(engine, fleet.tenant_id, Say("free"))
    gates = Gates()
    gates.open("free")
    bundles = [heard(fleet, job_id) for job_id in held]
    eventually(lambda: len(gates.at_work) == len(held))
    with engine.begin() as other:
        other.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        other.execute(text("SELECT FROM jobs WHERE id = ANY(:ids) FOR UPDATE"), {"ids": held})
        gates.open(*(str(number) for number in range(12)))
        for bundle in bundles:
            bundle.join(30)
        # When another ends, once it has been seen that rows are held
        threading.Event().wait(1.5)
        fleet.executor.run_bundle("test.say", [free.hex])
        # Then it is recorded long before each of them has been waited for
        eventually(lambda: the_job(engine, free).state == "succeeded", 4.0)
    eventually(lambda: not fleet.holdings)
    assert states([the_job(engine, job_id) for job_id in held]) == ["succeeded"] * 12
    impatient.dispose()


def test_closing_the_recorder_waits_for_what_was_put_before(fleet: Fleet) -> None:
    plain(lambda word, _ctx: word)
    ids = enqueued(fleet.engine, fleet.tenant_id, *(Say(str(number)) for number in range(50)))
    fleet.executor.run_bundle("test.say", [job_id.hex for job_id in ids])
    assert fleet.recorder.close(15)
    assert scalar(fleet.engine, "SELECT count(*) FROM attempts") == 50


def test_async_handlers_that_still_run_are_cancelled_when_the_worker_closes(fleet: Fleet) -> None:
    ended = threading.Event()

    @handles(Say)
    async def handler(args: Say, ctx: JobContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    (job_id,) = enqueued(fleet.engine, fleet.tenant_id, Say("endless"))

    def run() -> None:
        with contextlib.suppress(CancelledError):
            fleet.executor.run_bundle("test.say", [job_id.hex])

    bundle = threading.Thread(target=run)
    bundle.start()
    eventually(lambda: not fleet.holdings.overdue()[1] and fleet.holdings.running())
    fleet.executor.hand_back(fleet.holdings.undecided())
    eventually(lambda: not fleet.holdings)
    fleet.stop()
    bundle.join(30)
    assert ended.is_set()
    assert the_job(fleet.engine, job_id).state == "queued"


def test_a_database_that_goes_away_under_a_handler_costs_no_attempt(fleet: Fleet, engine: Engine) -> None:
    # Given a handler that reads, and whose connection is cut before it reads again
    def read_twice(_word: str, ctx: JobContext) -> None:
        pid = ctx.connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with engine.begin() as operator:
            operator.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        ctx.connection.execute(text("SELECT 1"))

    plain(read_twice)
    # When it runs
    (job,) = fleet.say("a")
    # Then the job waits as if it had not been tried, and nothing holds it
    assert (job.state, job.attempt, job.claim) == ("queued", 0, 1)
    assert fleet.outcomes() == [("snoozed", "Snooze")]


def test_a_disk_that_is_full_costs_no_attempt(fleet: Fleet) -> None:
    # Given a handler whose table cannot grow
    def grow(_word: str, ctx: JobContext) -> None:
        ctx.connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$"))

    plain(grow)
    # When it runs
    (job,) = fleet.say("a")
    # Then the job waits as if it had not been tried
    assert (job.state, job.attempt, job.claim) == ("queued", 0, 1)
    assert fleet.outcomes() == [("snoozed", "Snooze")]


def test_what_breaks_outside_of_a_handler_holds_no_job(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an executor whose own code fails while a bundle runs
    def broken(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(fleet.executor, "_perform", broken)
    plain(lambda _word, _ctx: None)
    # When a bundle is rung
    jobs = fleet.say("a", "b")
    # Then its jobs are retried, not held for as long as the process lives
    assert states(jobs) == ["retrying", "retrying"]


@pytest.mark.parametrize(
    ("lane", "claims", "expected"),
    [
        (None, 20, ("retrying", 1)),
        ("endpoint:1", 20, ("queued", 0)),  # something outside may have said "not now" so often
        ("endpoint:1", 1_000, ("retrying", 1)),
    ],
)
def test_a_job_that_takes_its_own_connection_down_dies_in_the_end(
    fleet: Fleet, engine: Engine, lane: str | None, claims: int, expected: tuple[str, int]
) -> None:
    # Given a job that has come back many times before, as the victim of outages or for what is outside
    def cut_off(_word: str, ctx: JobContext) -> None:
        ctx.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    plain(cut_off)
    (job_id,) = enqueued(engine, fleet.tenant_id, Say("a"), lane=lane)
    execute(engine, "UPDATE jobs SET claim = :claims", claims=claims)
    # When it takes its connection down once more
    fleet.ring([job_id])
    # Then that was an attempt, unless outages are too few of these times to blame the job
    job = the_job(engine, job_id)
    assert (job.state, job.attempt) == expected


def test_of_the_jobs_that_were_in_a_crash_one_runs_at_a_time_and_the_next_right_after_it(
    fleet: Fleet,
) -> None:
    # Given two jobs whose worker was killed, nobody knows which of them did it; and one that was not there
    guilty, innocent, other = enqueued(fleet.engine, fleet.tenant_id, Say("guilty"), Say("innocent"), Say("other"))
    execute(fleet.engine, "UPDATE jobs SET crashes = 1 WHERE args ->> 'word' <> 'other'")
    execute(fleet.engine, "UPDATE outbox SET alone = true WHERE job_id <> :id", id=other)
    at_work, go_on = threading.Event(), threading.Event()

    def act(word: str, _: JobContext) -> None:
        at_work.set()
        assert word == "other" or go_on.wait(10)

    plain(act)
    # When one of them runs, and the bells of the others are heard
    thread = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [guilty.hex]))
    thread.start()
    assert at_work.wait(10)
    fleet.executor.run_bundle("test.say", [innocent.hex])
    fleet.executor.run_bundle("test.say", [other.hex])
    # Then the other suspect has not been claimed: it is not there when this process dies
    assert [the_job(fleet.engine, one).state for one in (guilty, innocent)] == ["running", "queued"]
    eventually(lambda: the_job(fleet.engine, other).state == "succeeded")
    # And when the first one ends, its bell need not ring again
    go_on.set()
    eventually(lambda: states([the_job(fleet.engine, one) for one in (guilty, innocent)]) == ["succeeded"] * 2)
    thread.join(10)


class Gates:
    """A handler whose jobs wait where they are let go, by their word; `at_work` names those that have begun."""

    def __init__(self, payload: type[JobArgs] = Say) -> None:
        self.at_work: set[str] = set()
        self._open: dict[str, threading.Event] = {}
        plain(self._act, payload)

    def _act(self, word: str, _: JobContext) -> None:
        gate = self._open.setdefault(word, threading.Event())
        self.at_work.add(word)
        assert gate.wait(30)

    def open(self, *words: str) -> None:
        for word in words:
            self._open.setdefault(word, threading.Event()).set()


def suspects(fleet: Fleet, crashes: dict[str, int], payload: type[JobArgs] = Say) -> dict[str, UUID]:
    """Jobs that come back alone, each after so many crashes."""
    ids = enqueued(fleet.engine, fleet.tenant_id, *(payload(word) for word in crashes))
    for job_id, count in zip(ids, crashes.values(), strict=True):
        execute(fleet.engine, "UPDATE jobs SET crashes = :count WHERE id = :id", count=count, id=job_id)
    execute(fleet.engine, "UPDATE outbox SET alone = true")
    return dict(zip(crashes, ids, strict=True))


def heard(fleet: Fleet, job_id: UUID) -> threading.Thread:
    """The thread that hears the bell of this job."""
    thread = threading.Thread(target=fleet.executor.run_bundle, args=("test.say", [job_id.hex]))
    thread.start()
    return thread


def test_what_was_handed_back_does_not_wait_for_a_job_that_was_in_a_crash(fleet: Fleet) -> None:
    gates, ids = Gates(), suspects(fleet, {"suspect": 1, "one": 0, "two": 0, "three": 0})
    # When a job that was in a crash runs, and all the bells are heard at once
    threads = [heard(fleet, ids["suspect"])]
    eventually(lambda: gates.at_work == {"suspect"})
    threads += [heard(fleet, ids[word]) for word in ("one", "two", "three")]
    # Then all run beside it
    eventually(lambda: gates.at_work == set(ids))
    gates.open(*ids)
    for thread in threads:
        thread.join(30)
    eventually(lambda: not fleet.holdings)


def test_others_that_were_in_a_crash_wait_for_the_first_seconds_of_a_long_one_only(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.lone_jobs.TURN_S", 0.5)
    gates, ids = Gates(), suspects(fleet, {"long": 1, "next": 1, "last chance": 2})
    first = heard(fleet, ids["long"])
    eventually(lambda: gates.at_work == {"long"})
    # When the bell of another rings, and one more after a while
    fleet.executor.run_bundle("test.say", [ids["next"].hex])
    assert the_job(fleet.engine, ids["next"]).state == "queued"
    threading.Event().wait(0.6)
    second = heard(fleet, ids["next"])
    # Then it runs
    eventually(lambda: gates.at_work == {"long", "next"})
    # But one that another crash would bury does not, however long they run
    threading.Event().wait(0.6)
    fleet.executor.run_bundle("test.say", [ids["last chance"].hex])
    assert the_job(fleet.engine, ids["last chance"]).state == "queued"
    gates.open(*ids)
    first.join(30)
    second.join(30)
    fleet.ring([ids["last chance"]])
    assert the_job(fleet.engine, ids["last chance"]).state == "succeeded"


def test_a_job_that_another_crash_would_bury_runs_beside_no_other_that_was_in_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.lone_jobs.TURN_S", 0.1)
    gates, ids = Gates(), suspects(fleet, {"last chance": 2, "other": 1})
    thread = heard(fleet, ids["last chance"])
    eventually(lambda: gates.at_work == {"last chance"})
    for _ in range(3):
        threading.Event().wait(0.1)
        fleet.executor.run_bundle("test.say", [ids["other"].hex])
    assert the_job(fleet.engine, ids["other"]).state == "queued"
    # And right after it the other has its turn
    gates.open(*ids)
    thread.join(30)
    eventually(lambda: the_job(fleet.engine, ids["other"]).state == "succeeded")
    eventually(lambda: not fleet.holdings)


def test_others_that_were_in_a_crash_do_not_wait_for_one_that_was_given_up(fleet: Fleet) -> None:
    gates, ids = Gates(Hurry), suspects(fleet, {"hangs": 2, "next": 2}, Hurry)
    gates.open("next")
    fleet.vitals.start()
    thread = heard(fleet, ids["hangs"])
    eventually(lambda: fleet.outcomes() == [("retrying", "TimedOut")])
    fleet.executor.run_bundle("test.hurry", [ids["next"].hex])
    eventually(lambda: the_job(fleet.engine, ids["next"]).state == "succeeded")
    gates.open("hangs")
    thread.join(30)
    fleet.vitals.stop()
