"""Dead letters: each is replayed, edited and replayed, or discarded, once; history stays, and who did it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from domain.errors import BodyInvalid, DeadLetterResolved, NotFound
from domain.ids import new_id
from domain.job_kinds import GenerateReport, MailOrderConfirmed, ReserveInventory
from domain.jobs.attempts import ClaimedJob
from domain.jobs.dead_letters import (
    DeadLetterFilter,
    discard_if_open,
    match_dead_letters,
    replay_edited_if_open,
    replay_if_open,
)
from domain.jobs.kind import JobArgs, UnknownJobKind
from domain.jobs.retry_policy import Errored
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    accepted,
    an_order,
    at_once,
    claimed,
    declarations,
    emptied_database,
    ended,
    enqueued,
    execute,
    is_obliged,
    known,
    make_due,
    module_database,
    row,
    rows,
    running,
    scalar,
    the_job,
)

with declarations():

    class Ship(JobArgs, kind="test.ship"):
        """Its orders are another system's."""

        order_id: str


FOR_GOOD = Errored("PermanentFailure", "no such mailbox", permanent=True)


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture
def dead(engine: Engine, tenant_id: UUID) -> ClaimedJob:
    """A mail that used up its three attempts."""
    order_id, trace = new_id(), '{"requestId": "r-1"}'
    (job_id,) = enqueued(engine, tenant_id, MailOrderConfirmed(order_id), order_id=order_id, trace_context=trace)
    for _ in range(2):
        (job,) = claimed(engine, [job_id])
        assert ended(engine, job, Errored("OSError", "the disk is full"))
        make_due(engine)
    (last,) = claimed(engine, [job_id])
    assert ended(engine, last, Errored("OSError", "the disk is full"))
    return last


def letter_of(engine: Engine, job: ClaimedJob) -> Any:
    return row(engine, "SELECT * FROM dead_letters WHERE job_id = :id ORDER BY id DESC LIMIT 1", id=job.id)


def replayed(engine: Engine, letter_id: UUID) -> UUID:
    with engine.begin() as tx:
        return replay_if_open(tx, letter_id, "olga", "mailbox works again")


@pytest.mark.parametrize("wanted", [DeadLetterFilter(kind=""), DeadLetterFilter(fingerprint="")])
def test_what_is_asked_for_by_an_empty_name_is_nothing(
    engine: Engine, dead: ClaimedJob, wanted: DeadLetterFilter
) -> None:
    with engine.begin() as tx:
        assert match_dead_letters(tx, wanted) == []


def test_a_replay_keeps_the_job_its_history_and_its_claim_number(engine: Engine, dead: ClaimedJob) -> None:
    before, history = the_job(engine, dead.id), rows(engine, "SELECT * FROM attempts ORDER BY claim")
    assert before.state == "dead"
    # When it is replayed
    assert replayed(engine, letter_of(engine, dead).id) == dead.id
    # Then the same job waits, with as many attempts again as its kind allows
    after = the_job(engine, dead.id)
    assert (after.state, after.finished_at, after.args, after.claim) == ("queued", None, before.args, before.claim)
    assert (after.attempt, after.max_attempts) == (3, 6)
    assert after.version == before.version + 1
    assert rows(engine, "SELECT * FROM attempts ORDER BY claim") == history
    # And it runs on under the next claim
    (job,) = claimed(engine, [dead.id])
    assert (job.claim, job.attempt, job.lane) == (4, 4, "smtp")


def test_a_replay_is_recorded_in_the_letter_and_in_the_audit_log(engine: Engine, dead: ClaimedJob) -> None:
    letter_id = letter_of(engine, dead).id
    replayed(engine, letter_id)
    letter = letter_of(engine, dead)
    assert (letter.resolution, letter.resolved_by, letter.reason) == ("replayed", "olga", "mailbox works again")
    assert letter.replay_job_id == dead.id
    assert letter.resolved_at is not None
    act = row(engine, "SELECT tenant_id, actor, action, subject, reason FROM audit_log")
    assert act == (dead.tenant_id, "olga", "dead_letter.replayed", str(letter_id), "mailbox works again")


def test_a_replayed_job_that_dies_again_leaves_a_second_letter(engine: Engine, dead: ClaimedJob) -> None:
    replayed(engine, letter_of(engine, dead).id)
    (job,) = claimed(engine, [dead.id])
    assert ended(engine, job, FOR_GOOD)
    letters = rows(engine, "SELECT resolution, cause FROM dead_letters ORDER BY id")
    assert letters == [("replayed", "attempts"), (None, "permanent")]
    assert replayed(engine, letter_of(engine, dead).id) == dead.id


def test_a_replay_forgives_crashes(engine: Engine, dead: ClaimedJob) -> None:
    execute(engine, "UPDATE jobs SET crashes = 3")
    replayed(engine, letter_of(engine, dead).id)
    assert the_job(engine, dead.id).crashes == 0


def test_the_replay_of_a_failed_order_may_still_confirm_it(engine: Engine, tenant_id: UUID) -> None:
    a_product(engine, tenant_id)
    (order,) = accepted(engine, [an_order(tenant_id)])
    (job,) = claimed(engine, [order.job_id])
    assert ended(engine, job, FOR_GOOD)
    assert scalar(engine, "SELECT status FROM orders") == "failed"
    assert replayed(engine, letter_of(engine, job).id) == order.job_id
    assert is_obliged(engine, order.job_id)


Act = Callable[[Connection, UUID], object]
ACTS: dict[str, Act] = {
    "replayed": lambda tx, letter_id: replay_if_open(tx, letter_id, "olga"),
    "edited": lambda tx, letter_id: replay_edited_if_open(tx, letter_id, {"order_id": str(new_id())}, "olga"),
    "discarded": lambda tx, letter_id: discard_if_open(tx, letter_id, "olga"),
}


@pytest.mark.parametrize("first", ACTS)
@pytest.mark.parametrize("second", ACTS)
def test_a_letter_is_resolved_once(engine: Engine, dead: ClaimedJob, first: str, second: str) -> None:
    letter_id = letter_of(engine, dead).id
    with engine.begin() as tx:
        ACTS[first](tx, letter_id)
    before = rows(engine, "SELECT * FROM outbox"), rows(engine, "SELECT * FROM audit_log")
    with pytest.raises(DeadLetterResolved, match=first), engine.begin() as tx:
        ACTS[second](tx, letter_id)
    assert (rows(engine, "SELECT * FROM outbox"), rows(engine, "SELECT * FROM audit_log")) == before
    assert letter_of(engine, dead).resolution == first


def test_of_many_operators_at_once_one_replays_it(engine: Engine, dead: ClaimedJob) -> None:
    letter_id = letter_of(engine, dead).id
    outcomes = at_once(*[lambda: replayed(engine, letter_id)] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DeadLetterResolved"] * 3 + ["UUID"]
    assert scalar(engine, "SELECT count(*) FROM outbox") == scalar(engine, "SELECT count(*) FROM audit_log") == 1
    assert the_job(engine, dead.id).max_attempts == 6


def test_an_edited_replay_is_a_new_job_that_names_the_old_one(engine: Engine, dead: ClaimedJob) -> None:
    order_id = new_id()
    with engine.begin() as tx:
        new = replay_edited_if_open(tx, letter_of(engine, dead).id, {"order_id": str(order_id)}, "olga", "typo")
    old, job = the_job(engine, dead.id), the_job(engine, new)
    assert (new != dead.id, old.state, job.state) == (True, "dead", "queued")
    assert (job.parent_id, job.args, job.attempt) == (dead.id, {"order_id": str(order_id)}, 0)
    assert job.order_id == order_id
    inherited = ("tenant_id", "kind", "queue", "lane", "max_attempts", "trace_context")
    assert [getattr(job, name) for name in inherited] == [getattr(old, name) for name in inherited]
    assert is_obliged(engine, new)
    letter = letter_of(engine, dead)
    assert (letter.resolution, letter.replay_job_id, letter.reason) == ("edited", new, "typo")
    act = row(engine, "SELECT action, detail FROM audit_log")
    assert act == ("dead_letter.edited", {"args": {"order_id": str(order_id)}})


@pytest.mark.parametrize("args", [{}, {"order_id": "seven"}, {"order_id": None}])
def test_arguments_that_do_not_fit_the_kind_are_refused_and_nothing_is_resolved(
    engine: Engine, dead: ClaimedJob, args: dict[str, Any]
) -> None:
    with pytest.raises(BodyInvalid) as refused, engine.begin() as tx:
        replay_edited_if_open(tx, letter_of(engine, dead).id, args, "olga")
    assert [violation.field for violation in refused.value.violations] == ["args"]
    assert letter_of(engine, dead).resolution is None
    assert rows(engine, "SELECT FROM outbox") == []


def test_a_letter_of_a_kind_this_code_does_not_know_can_be_replayed_but_not_edited(
    engine: Engine, dead: ClaimedJob
) -> None:
    execute(engine, "UPDATE dead_letters SET kind = 'newer.kind'")
    with pytest.raises(UnknownJobKind), engine.begin() as tx:
        replay_edited_if_open(tx, letter_of(engine, dead).id, {}, "olga")
    replayed(engine, letter_of(engine, dead).id)
    assert the_job(engine, dead.id).max_attempts == 4


def test_what_another_kind_calls_its_order_is_not_taken_for_one_of_ours(engine: Engine, tenant_id: UUID) -> None:
    letters = []
    with known(Ship):
        for number in ("A-1", "A-2"):
            job = running(engine, tenant_id, Ship(number))
            assert ended(engine, job, FOR_GOOD)
            letters.append(letter_of(engine, job))
        execute(engine, "DELETE FROM jobs")
        copy = replayed(engine, letters[0].id)
        with engine.begin() as tx:
            edited = replay_edited_if_open(tx, letters[1].id, {"order_id": "A-3"}, "olga")
    found = [(the_job(engine, job_id).args, the_job(engine, job_id).order_id) for job_id in (copy, edited)]
    assert found == [({"order_id": "A-1"}, None), ({"order_id": "A-3"}, None)]


def test_a_discarded_letter_leaves_its_job_dead(engine: Engine, dead: ClaimedJob) -> None:
    with engine.begin() as tx:
        discard_if_open(tx, letter_of(engine, dead).id, "olga", "customer called")
    letter = letter_of(engine, dead)
    assert (letter.resolution, letter.reason, letter.replay_job_id) == ("discarded", "customer called", None)
    assert the_job(engine, dead.id).state == "dead"
    assert not is_obliged(engine, dead.id)
    assert scalar(engine, "SELECT action FROM audit_log") == "dead_letter.discarded"


def test_a_replay_after_retention_took_the_job_makes_a_new_one_from_the_snapshot(
    engine: Engine, dead: ClaimedJob
) -> None:
    before = the_job(engine, dead.id)
    execute(engine, "DELETE FROM jobs")
    new = replayed(engine, letter_of(engine, dead).id)
    job = the_job(engine, new)
    assert (job.parent_id, job.attempt, job.state) == (dead.id, 0, "queued")
    kept = ("tenant_id", "kind", "queue", "lane", "args", "order_id", "max_attempts", "trace_context")
    assert [getattr(job, name) for name in kept] == [getattr(before, name) for name in kept]
    assert [again.id for again in claimed(engine, [new])] == [new]


def test_a_job_without_a_trace_or_a_lane_can_be_copied_too(engine: Engine, tenant_id: UUID) -> None:
    job = running(engine, tenant_id, GenerateReport(new_id()))
    assert ended(engine, job, FOR_GOOD)
    execute(engine, "DELETE FROM jobs")
    (copy,) = claimed(engine, [replayed(engine, letter_of(engine, job).id)])
    assert (copy.trace_context, copy.order_id, copy.lane) == (None, None, None)


def test_whoever_polls_an_order_finds_the_job_that_stands_in_for_its_dead_one(engine: Engine, tenant_id: UUID) -> None:
    a_product(engine, tenant_id)
    mine, other = accepted(engine, [an_order(tenant_id), an_order(tenant_id)])
    (job,) = claimed(engine, [mine.job_id])
    assert ended(engine, job, FOR_GOOD)
    execute(engine, "DELETE FROM jobs WHERE id = :id", id=mine.job_id)
    new = replayed(engine, letter_of(engine, job).id)
    roots = dict(rows(engine, "SELECT id, root_job_id FROM orders"))
    assert roots == {mine.order_id: new, other.order_id: other.job_id}


@pytest.mark.parametrize("act", ACTS)
def test_a_letter_that_does_not_exist_is_not_found(engine: Engine, act: str) -> None:
    with pytest.raises(NotFound), engine.begin() as tx:
        ACTS[act](tx, new_id())


def test_dead_jobs_and_open_letters_never_disagree(engine: Engine, tenant_id: UUID) -> None:
    jobs = claimed(engine, enqueued(engine, tenant_id, *(ReserveInventory(new_id()) for _ in range(4))))
    for job in jobs[:3]:
        assert ended(engine, job, FOR_GOOD)
    replayed(engine, letter_of(engine, jobs[0]).id)
    dead = {job_id for (job_id,) in rows(engine, "SELECT id FROM jobs WHERE state = 'dead'")}
    open_ = {job_id for (job_id,) in rows(engine, "SELECT job_id FROM dead_letters WHERE resolution IS NULL")}
    assert dead == open_ == {jobs[1].id, jobs[2].id}
