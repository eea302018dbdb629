"""Unique jobs: of a kind and key there is one at a time, whoever asks, however many ask at once."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.aftermath import cancel, settle
from domain.database import connect
from domain.errors import TwinExists
from domain.ids import new_id
from domain.invariants import INVARIANTS, violations_of
from domain.jobs.dead_letters import replay_edited_if_open, replay_if_open
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import NewJob, enqueue, new_job
from domain.jobs.retry_policy import Ending, Errored, Snoozed, Succeeded
from domain.jobs.unique import forget_expired_keys
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    at_once,
    claimed,
    declarations,
    emptied_database,
    eventually,
    execute,
    is_obliged,
    known,
    module_database,
    scalar,
    the_job,
)

with declarations():

    class Sync(JobArgs, kind="test.sync", queue="test", unique_by=("customer",)):
        """Unique by its customer until it has ended."""

        customer: str
        why: str = ""

    class Remind(JobArgs, kind="test.remind", queue="test", unique_by=("customer",), unique_for=3600.0):
        """At most one an hour."""

        customer: str

    class Say(JobArgs, kind="test.say", queue="test"):
        """Not unique by itself."""

        word: str


FOR_GOOD = Errored("PermanentFailure", "no such customer", permanent=True)
ENDINGS: dict[str, Ending] = {"succeeded": Succeeded(), "dead": FOR_GOOD}


@pytest.fixture(autouse=True)
def kinds() -> Iterator[None]:
    with known(Sync, Remind, Say):
        yield


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


def ask(engine: Engine, *jobs: NewJob) -> Mapping[UUID, UUID]:
    with engine.begin() as tx:
        return enqueue(tx, jobs)


def end(engine: Engine, job_id: UUID, ending: Ending) -> None:
    (job,) = claimed(engine, [job_id])
    with engine.begin() as tx:
        assert settle(tx, [finish_of(job, ending, decided(job, ending))])


def letter_of(engine: Engine, job_id: UUID) -> UUID:
    return UUID(str(scalar(engine, "SELECT id FROM dead_letters WHERE job_id = :id AND resolution IS NULL", id=job_id)))


def jobs_in(engine: Engine) -> int:
    return int(scalar(engine, "SELECT count(*) FROM jobs"))


def keys_in(engine: Engine) -> int:
    return int(scalar(engine, "SELECT count(*) FROM unique_jobs"))


def assert_consistent(engine: Engine) -> None:
    with engine.begin() as tx:
        assert {
            invariant.name: violations_of(tx, invariant) for invariant in INVARIANTS if "key" in invariant.name
        } == {"unique_keys_are_of_unended_jobs": []}


def test_a_twin_stores_nothing_and_names_the_job_that_is_there(engine: Engine, tenant_id: UUID) -> None:
    first = new_job(Sync("ada", "a new address"), tenant_id=tenant_id)
    twin = new_job(Sync("ada", "a new name"), tenant_id=tenant_id)
    assert ask(engine, first) == {}
    assert ask(engine, twin) == {twin.id: first.id}
    assert jobs_in(engine) == scalar(engine, "SELECT count(*) FROM outbox") == 1
    assert the_job(engine, first.id).unique_key == '["ada"]'


def test_another_key_kind_or_tenant_is_no_twin(engine: Engine, tenant_id: UUID) -> None:
    def said(tenant: UUID, key: str) -> NewJob:
        return new_job(Say("hello"), tenant_id=tenant, unique_key=key)

    other = a_tenant(engine, "another")
    jobs = [said(tenant_id, '["ada"]'), said(tenant_id, '["bob"]'), said(other, '["ada"]')]
    assert ask(engine, *jobs, new_job(Sync("ada"), tenant_id=tenant_id)) == {}
    assert jobs_in(engine) == 4


def test_twins_in_one_batch_become_the_first_of_them(engine: Engine, tenant_id: UUID) -> None:
    plain = [new_job(Say("hello"), tenant_id=tenant_id) for _ in range(2)]
    twins = [new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(3)]
    told = ask(engine, plain[0], *twins, plain[1])
    (kept,) = {twin.id for twin in twins} - set(told)
    assert set(told.values()) == {kept}
    assert jobs_in(engine) == 3


@pytest.mark.parametrize("state", ["succeeded", "dead", "cancelled"])
def test_a_key_is_free_in_the_moment_in_which_its_job_ends(engine: Engine, tenant_id: UUID, state: str) -> None:
    first, second, third = (new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(3))
    ask(engine, first)
    if state == "cancelled":
        with engine.begin() as tx:
            cancel(tx, tenant_id, first.id)
    else:
        end(engine, first.id, ENDINGS[state])
    assert the_job(engine, first.id).state == state
    assert_consistent(engine)
    assert ask(engine, second) == {}
    assert ask(engine, third) == {third.id: second.id}


@pytest.mark.parametrize("ending", [Errored("OSError", "the disk is full"), Snoozed(60.0, "too early")])
def test_a_job_that_will_run_again_keeps_its_key(engine: Engine, tenant_id: UUID, ending: Ending) -> None:
    first, twin = (new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(2))
    ask(engine, first)
    end(engine, first.id, ending)
    assert ask(engine, twin) == {twin.id: first.id}


def test_a_key_for_a_period_outlives_its_job_and_ends_with_the_period(engine: Engine, tenant_id: UUID) -> None:
    first, twin, next_ = (new_job(Remind("ada"), tenant_id=tenant_id) for _ in range(3))
    ask(engine, first)
    end(engine, first.id, Succeeded())
    assert ask(engine, twin) == {twin.id: first.id}
    execute(engine, "UPDATE unique_jobs SET until = clock_timestamp()")
    assert ask(engine, next_) == {}
    assert ask(engine, twin) == {twin.id: next_.id}


def test_keys_whose_period_is_over_are_forgotten_and_no_others(engine: Engine, tenant_id: UUID) -> None:
    ask(engine, *(new_job(Remind(name), tenant_id=tenant_id) for name in ("ada", "bob")))
    ask(engine, new_job(Sync("ada"), tenant_id=tenant_id))
    execute(engine, "UPDATE unique_jobs SET until = clock_timestamp() WHERE key LIKE '%bob%'")
    with engine.begin() as tx:
        assert forget_expired_keys(tx) == 1
    assert keys_in(engine) == 2


def test_a_key_goes_with_the_transaction_that_took_it(engine: Engine, tenant_id: UUID) -> None:
    def take_and_fail() -> None:
        with engine.begin() as tx:
            enqueue(tx, [new_job(Sync("ada"), tenant_id=tenant_id)])
            raise LookupError

    with pytest.raises(LookupError):
        take_and_fail()
    assert ask(engine, new_job(Sync("ada"), tenant_id=tenant_id)) == {}


@pytest.fixture
def wide(database_url: str) -> Iterator[Engine]:
    wide = connect(database_url, process="test", pool_size=64, pool_timeout_s=60.0)
    yield wide
    wide.dispose()


def test_sixty_four_who_ask_at_once_get_one_job(wide: Engine, tenant_id: UUID) -> None:
    jobs = [new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(64)]
    told = at_once(*(lambda job=job: dict(ask(wide, job)) for job in jobs))
    assert jobs_in(wide) == 1
    kept = scalar(wide, "SELECT id FROM jobs")
    assert [answer for answer in told if answer] == [{job.id: kept} for job in jobs if job.id != kept]


def test_one_takes_an_expired_key_over_however_many_try(wide: Engine, tenant_id: UUID) -> None:
    ask(wide, new_job(Remind("ada"), tenant_id=tenant_id))
    execute(wide, "UPDATE unique_jobs SET until = clock_timestamp()")
    jobs = [new_job(Remind("ada"), tenant_id=tenant_id) for _ in range(16)]
    told = at_once(*(lambda job=job: dict(ask(wide, job)) for job in jobs))
    assert jobs_in(wide) == 2
    assert told.count({}) == 1


def test_batches_with_the_same_keys_in_any_order_do_not_deadlock(wide: Engine, tenant_id: UUID) -> None:
    names = [f"customer {n}" for n in range(40)]
    batches = [[new_job(Sync(name), tenant_id=tenant_id) for name in names[:: 1 if n % 2 else -1]] for n in range(16)]
    told = at_once(*(lambda batch=batch: dict(ask(wide, *batch)) for batch in batches))
    assert not [answer for answer in told if isinstance(answer, Exception)]
    assert jobs_in(wide) == len(names)


def test_keys_are_taken_in_one_order_whatever_the_order_of_the_jobs(wide: Engine, tenant_id: UUID) -> None:
    """While somebody holds the key in the middle, one batch waits for it, and the other for the first batch."""
    batches = [[new_job(Sync(name), tenant_id=tenant_id) for name in names] for names in ("amz", "zma")]
    with wide.connect() as holder, ThreadPoolExecutor(2) as threads:
        enqueue(holder, [new_job(Sync("m"), tenant_id=tenant_id)])
        asked = [threads.submit(ask, wide, *batch) for batch in batches]
        eventually(lambda: scalar(wide, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 2)
        holder.rollback()
        told = [answer.result(30) for answer in asked]
    assert sorted(len(twins) for twins in told) == [0, 3]


def test_asking_while_jobs_end_loses_no_key_and_breaks_none(wide: Engine, tenant_id: UUID) -> None:
    """Sixteen ask for one key again and again, and whoever got it ends its job: never are two of them unended."""

    def ask_and_end() -> int:
        got = 0
        for _ in range(15):
            job = new_job(Sync("ada"), tenant_id=tenant_id)
            if not ask(wide, job):
                unended = scalar(wide, "SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'dead')")
                assert unended == 1
                end(wide, job.id, Succeeded())
                got += 1
        return got

    got = at_once(*[ask_and_end] * 16)
    assert not [answer for answer in got if isinstance(answer, Exception)]
    assert jobs_in(wide) == sum(answer for answer in got if isinstance(answer, int)) >= 1
    assert keys_in(wide) == 0


def test_a_replay_asks_for_its_key_again(engine: Engine, tenant_id: UUID) -> None:
    first, twin = (new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(2))
    ask(engine, first)
    end(engine, first.id, FOR_GOOD)
    with engine.begin() as tx:
        replay_if_open(tx, letter_of(engine, first.id), by="olga")
    assert ask(engine, twin) == {twin.id: first.id}
    end(engine, first.id, Succeeded())
    assert_consistent(engine)
    assert keys_in(engine) == 0


@pytest.mark.parametrize("edited", [False, True])
def test_a_replay_is_refused_while_another_job_has_the_key(engine: Engine, tenant_id: UUID, edited: bool) -> None:
    first, second = (new_job(Sync("ada"), tenant_id=tenant_id) for _ in range(2))
    ask(engine, first)
    end(engine, first.id, FOR_GOOD)
    ask(engine, second)
    letter = letter_of(engine, first.id)

    def replay() -> None:
        with engine.begin() as tx:
            if edited:
                replay_edited_if_open(tx, letter, {"customer": "ada"}, by="olga")
            else:
                replay_if_open(tx, letter, by="olga")

    with pytest.raises(TwinExists, match=str(second.id)):
        replay()
    assert (the_job(engine, first.id).state, is_obliged(engine, first.id), jobs_in(engine)) == ("dead", False, 2)
    end(engine, second.id, Succeeded())
    replay()
    assert jobs_in(engine) == (3 if edited else 2)


@pytest.mark.parametrize("payload", [Sync, Remind])
def test_an_edited_replay_takes_the_key_over(engine: Engine, tenant_id: UUID, payload: type[Sync | Remind]) -> None:
    first, twin = (new_job(payload("ada"), tenant_id=tenant_id) for _ in range(2))
    ask(engine, first)
    end(engine, first.id, FOR_GOOD)
    with engine.begin() as tx:
        copy = replay_edited_if_open(tx, letter_of(engine, first.id), {"customer": "ada"}, by="olga")
    assert ask(engine, twin) == {twin.id: copy}
    end(engine, copy, Succeeded())
    assert_consistent(engine)


def test_who_asks_says_the_key_and_the_period_or_the_kind_does(engine: Engine) -> None:
    tenant_id = new_id()
    assert new_job(Say("hello"), tenant_id=tenant_id).unique_key is None
    assert new_job(Sync("ada"), tenant_id=tenant_id).unique_for_s is None
    assert new_job(Remind("ada"), tenant_id=tenant_id).unique_for_s == 3600
    own = new_job(Remind("ada"), tenant_id=tenant_id, unique_key="mine", unique_for=timedelta(minutes=1))
    assert (own.unique_key, own.unique_for_s) == ("mine", 60)
    for wrong in (
        {"unique_for": timedelta(hours=1)},
        {"unique_key": ""},
        {"unique_key": "x" * 501},
        {"unique_key": "x", "unique_for": timedelta(0)},
    ):
        with pytest.raises(ValueError, match="unique"):
            new_job(Say("hello"), tenant_id=tenant_id, **wrong)


def test_a_scheduled_job_has_its_key_from_the_moment_it_is_asked_for(engine: Engine, tenant_id: UUID) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    first = new_job(Sync("ada"), tenant_id=tenant_id, due_at=later)
    twin = new_job(Sync("ada"), tenant_id=tenant_id)
    assert ask(engine, first, twin) == {twin.id: first.id}
    assert the_job(engine, first.id).state == "scheduled"
