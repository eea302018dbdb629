"""Claims, finishes, cancels and hurries at the same jobs at the same time.

Every job keeps exactly one obligation or one holder, nobody deadlocks, and the server survives, whose plans look again
at rows that changed meanwhile.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from domain.aftermath import cancel, settle
from domain.database import connect
from domain.errors import InvalidState
from domain.ids import new_id
from domain.invariants import INVARIANTS, violations_of
from domain.job_kinds import GenerateReport
from domain.jobs.attempts import ClaimedJob, start_if_due
from domain.jobs.decision import decided
from domain.jobs.finish import Finish, finish_of, plain_finish_of
from domain.jobs.priority import reprioritise_if_waiting
from domain.jobs.retry_now import make_due_now_if_waiting
from domain.jobs.retry_policy import Snoozed
from tests.integration.builders import a_tenant, enqueued, execute, rows, scalar

JOBS, ROUNDS, WORKERS = 60, 60, 6


@pytest.fixture
def hot(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url, process="test", pool_size=WORKERS + 4, hot=True)
    yield engine
    engine.dispose()


def test_jobs_that_many_claim_finish_cancel_and_hurry_at_once_keep_one_obligation_or_one_holder(
    engine: Engine, hot: Engine
) -> None:
    tenant_id = a_tenant(engine)
    ids = enqueued(engine, tenant_id, *[GenerateReport(report_id=new_id())] * JOBS)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))  # with statistics the planner takes the paths that it takes in production
    started: Counter[tuple[UUID, int]] = Counter()

    def work(dice: random.Random) -> None:
        worker_id = new_id()
        with hot.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            jobs = start_if_due(connection, dice.sample(ids, JOBS // 3), worker_id)
        started.update((job.id, job.claim) for job in jobs)
        with hot.begin() as tx:
            settle(tx, [_finish(dice, job) for job in jobs])

    def meddle(dice: random.Random) -> None:
        job_id = dice.choice(ids)
        acts: list[Callable[[], object]] = [
            lambda: _in(hot, lambda tx: reprioritise_if_waiting(tx, job_id, dice.randint(-2, 2), "test")),
            lambda: _in(hot, lambda tx: make_due_now_if_waiting(tx, job_id, "test")),
        ]
        if dice.random() < 0.05:
            acts = [lambda: _in(hot, lambda tx: cancel(tx, tenant_id, job_id))]
        with suppress(InvalidState):  # it runs, or has ended
            dice.choice(acts)()

    _all_at_once([work] * WORKERS + [meddle] * 3)

    assert max(started.values()) == 1
    assert {violation.name: violations_of_now(engine, violation.name) for violation in INVARIANTS} == {
        violation.name: [] for violation in INVARIANTS
    }
    assert len(started) > JOBS


def test_a_claim_that_waited_for_another_does_not_start_what_was_put_back_meanwhile(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    (job_id,) = enqueued(engine, tenant_id, GenerateReport(report_id=new_id()))
    answers: list[list[ClaimedJob]] = []

    def claim_late() -> None:
        with engine.begin() as tx:
            answers.append(start_if_due(tx, [job_id], new_id()))

    with engine.begin() as first:
        (job,) = start_if_due(first, [job_id], new_id())
        ending = Snoozed(0.0, "put back")
        settle(first, [finish_of(job, ending, decided(job, ending))])
        late = threading.Thread(target=claim_late)
        late.start()
        _wait_until_blocked(engine)
    late.join(10)

    assert answers == [[]]
    assert rows(engine, "SELECT state, claim FROM jobs") == [("queued", 1)]
    assert scalar(engine, "SELECT count(*) FROM outbox") == 1


def violations_of_now(engine: Engine, name: str) -> list[object]:
    (invariant,) = [one for one in INVARIANTS if one.name == name]
    with engine.begin() as tx:
        return list(violations_of(tx, invariant))


def _finish(dice: random.Random, job: ClaimedJob) -> Finish:
    if dice.random() < 0.1:
        return plain_finish_of(job)
    ending = Snoozed(0.0, "put back at once")
    return finish_of(job, ending, decided(job, ending))


def _in(engine: Engine, act: Callable[..., object]) -> None:
    with engine.begin() as tx:
        act(tx)


def _all_at_once(acts: Sequence[Callable[[random.Random], None]]) -> None:
    broken: list[BaseException] = []

    def run(number: int, act: Callable[[random.Random], None]) -> None:
        dice = random.Random(number)  # a test's dice
        try:
            for _ in range(ROUNDS):
                act(dice)
        except BaseException as error:  # noqa: BLE001  # told by the assertion below
            broken.append(error)

    threads = [threading.Thread(target=run, args=(number, act)) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [str(error) for error in broken] == []


def _wait_until_blocked(engine: Engine) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not scalar(engine, waiting):
        execute(engine, "SELECT pg_sleep(0.01)")
