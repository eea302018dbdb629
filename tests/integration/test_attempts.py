"""Claims, leases and finishes: one holder per claim, nothing of a stale one, everything of an ending or nothing."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from domain.aftermath import settle
from domain.ids import new_id
from domain.job_kinds import GenerateReport, ReserveInventory
from domain.jobs.attempts import (
    ClaimedJob,
    asked_to_stop,
    hold,
    renew_leases,
    report_progress_if_held,
    start_if_due,
)
from domain.jobs.cancellation import cancel_unless_finished
from domain.jobs.due import ring_due_in_lanes
from domain.jobs.finish import finish_if_held, finish_of
from domain.jobs.kind import JobArgs
from domain.jobs.rescue import take_over_expired
from domain.jobs.retry_policy import Backoff, Cancelled, Ending, Errored, Snoozed, Succeeded, decide
from domain.lanes.lanes import open_lane
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    at_once,
    claimed,
    emptied_database,
    ended,
    enqueued,
    execute,
    is_obliged,
    make_due,
    module_database,
    row,
    rows,
    running,
    scalar,
    the_job,
)

FAILED = Errored("OSError", "the disk is full", "File 'x'")
FOR_GOOD = Errored("PermanentFailure", "no such mailbox", permanent=True)


def reservation() -> JobArgs:
    return ReserveInventory(new_id())


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


@pytest.fixture
def job(engine: Engine, tenant_id: UUID) -> ClaimedJob:
    return running(engine, tenant_id, reservation())


def attempts_of(engine: Engine, job_id: UUID) -> list[Any]:
    return rows(engine, "SELECT * FROM attempts WHERE job_id = :id ORDER BY claim", id=job_id)


# ---- the claim


def test_a_claim_raises_claim_and_attempt_and_ends_its_own_obligation_only(engine: Engine, tenant_id: UUID) -> None:
    mine, others = enqueued(engine, tenant_id, reservation(), reservation())
    (job,) = claimed(engine, [mine])
    assert (job.id, job.claim, job.attempt, job.kind, job.tenant_id) == (mine, 1, 1, "inventory.reserve", tenant_id)
    stored = the_job(engine, mine)
    assert (stored.state, stored.claim, stored.attempt, stored.version) == ("running", 1, 1, 2)
    lease = row(engine, "SELECT * FROM leases")
    assert (lease.worker_id, lease.job_ids, lease.claims) == (stored.worker_id, [mine], [1])
    assert lease.lease_until > stored.started_at
    assert (is_obliged(engine, mine), is_obliged(engine, others)) == (False, True)
    assert the_job(engine, others).state == "queued"


def test_a_doubled_bell_starts_nothing(engine: Engine, job: ClaimedJob) -> None:
    before = the_job(engine, job.id)
    assert claimed(engine, [job.id]) == []
    assert the_job(engine, job.id) == before


def test_an_early_bell_starts_nothing_and_the_obligation_stands(engine: Engine, job: ClaimedJob) -> None:
    # Given a job that failed and is due again in a minute
    assert ended(engine, job, Errored("RetryLater", "busy", retry_after_s=60))
    # When its first bell comes once more
    assert claimed(engine, [job.id]) == []
    # Then it still waits, and its obligation with it
    assert the_job(engine, job.id).state == "retrying"
    assert is_obliged(engine, job.id)
    make_due(engine)
    assert [again.claim for again in claimed(engine, [job.id])] == [2]


def test_a_scheduled_job_is_not_started_before_its_time(engine: Engine, tenant_id: UUID) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation(), due_in_s=60)
    assert claimed(engine, [job_id]) == []
    assert is_obliged(engine, job_id)


@pytest.mark.parametrize("ending", [Succeeded(), Cancelled(), FOR_GOOD])
def test_what_has_ended_is_not_started_again(engine: Engine, job: ClaimedJob, ending: Ending) -> None:
    assert ended(engine, job, ending)
    assert claimed(engine, [job.id]) == []


def test_a_cancelled_job_is_not_started_by_a_bell_that_was_under_way(engine: Engine, tenant_id: UUID) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation())
    with engine.begin() as tx:
        assert cancel_unless_finished(tx, tenant_id, job_id)
    assert claimed(engine, [job_id]) == []
    assert not is_obliged(engine, job_id)


def test_an_unknown_id_and_an_empty_bell_start_nothing(engine: Engine) -> None:
    assert claimed(engine, [new_id(), UUID(int=0), UUID(int=2**128 - 1)]) == claimed(engine, []) == []


def test_a_claim_that_is_rolled_back_leaves_everything_as_it_was(engine: Engine, tenant_id: UUID) -> None:
    (job_id,) = enqueued(engine, tenant_id, reservation())
    before = the_job(engine, job_id)
    with engine.connect() as dying:
        assert start_if_due(dying, [job_id], new_id())
        dying.rollback()
    assert the_job(engine, job_id) == before
    assert is_obliged(engine, job_id)


def test_a_claim_while_a_relay_is_ringing_the_same_row_leaves_no_obligation_behind(
    engine: Engine, tenant_id: UUID
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", "inventory")
    (job_id,) = enqueued(engine, tenant_id, reservation(), lane="endpoint:1")
    with engine.connect() as relay:
        assert ring_due_in_lanes(relay)
        assert len(at_once(lambda: claimed(engine, [job_id]), relay.commit)) == 2
    assert the_job(engine, job_id).state == "running"
    assert not is_obliged(engine, job_id)


def test_workers_with_the_same_bundle_start_each_job_exactly_once(engine: Engine, tenant_id: UUID) -> None:
    ids = enqueued(engine, tenant_id, *(reservation() for _ in range(100)))
    claims = at_once(*[lambda: claimed(engine, ids)] * 4)
    assert sorted(job.id for claim in claims if isinstance(claim, list) for job in claim) == sorted(ids)
    assert scalar(engine, "SELECT count(*) FROM jobs WHERE claim = 1 AND state = 'running'") == 100
    assert scalar(engine, "SELECT count(*) FROM outbox") == 0


def test_overlapping_bundles_in_opposite_order_do_not_deadlock(engine: Engine, tenant_id: UUID) -> None:
    for _ in range(5):
        ids = enqueued(engine, tenant_id, *(reservation() for _ in range(60)))
        forwards, backwards = ids[:40], ids[:19:-1]
        claims = at_once(lambda: claimed(engine, forwards), lambda: claimed(engine, backwards))  # noqa: B023
        assert sorted(job.id for claim in claims if isinstance(claim, list) for job in claim) == sorted(ids)


# ---- the lease


def bundle(engine: Engine, tenant_id: UUID, worker_id: UUID, size: int = 1) -> tuple[UUID, list[ClaimedJob]]:
    """Jobs that this worker claimed together. Answers their lease, too."""
    lease_id = new_id()
    with engine.begin() as tx:
        ids = enqueued(engine, tenant_id, *(reservation() for _ in range(size)))
        return lease_id, start_if_due(tx, ids, worker_id, lease_id=lease_id)


def test_a_bundle_is_held_by_one_lease_and_what_starts_nothing_leaves_none(engine: Engine, tenant_id: UUID) -> None:
    lease_id, jobs = bundle(engine, tenant_id, new_id(), size=3)
    claimed(engine, [job.id for job in jobs])
    (lease,) = rows(engine, "SELECT id, job_ids, claims FROM leases")
    assert (lease.id, set(lease.job_ids), lease.claims) == (lease_id, {job.id for job in jobs}, [1, 1, 1])


def test_a_worker_renews_its_live_leases_drops_those_that_ended_and_touches_no_others(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given two bundles of one worker that run, one that has ended, one taken over, and one of another worker
    worker_id = new_id()
    (first, _), (second, _), (done, _), (lost, _) = (bundle(engine, tenant_id, worker_id) for _ in range(4))
    others, _ = bundle(engine, tenant_id, new_id())
    execute(engine, "DELETE FROM leases WHERE id = :id", id=lost)
    before: dict[UUID, datetime] = dict(rows(engine, "SELECT id, lease_until FROM leases"))
    # When it speaks, and even names what is not its own
    with engine.begin() as tx:
        renewed = renew_leases(tx, worker_id, [first, second, lost, others], [done, others], lease_s=600)
    # Then it hears that something was taken from it, and only what it holds lives longer
    assert renewed == 2
    after: dict[UUID, datetime] = dict(rows(engine, "SELECT id, lease_until FROM leases"))
    assert set(after) == {first, second, others}
    assert {lease_id for lease_id in after if after[lease_id] > before[lease_id]} == {first, second}
    with engine.begin() as tx:
        assert renew_leases(tx, worker_id, [], []) == 0


def test_only_running_jobs_that_somebody_wants_cancelled_are_asked_to_stop(engine: Engine, tenant_id: UUID) -> None:
    running_, stopping, done = claimed(engine, enqueued(engine, tenant_id, *(reservation() for _ in range(3))))
    with engine.begin() as tx:
        assert cancel_unless_finished(tx, tenant_id, stopping.id) is None
        assert cancel_unless_finished(tx, tenant_id, done.id) is None
    assert ended(engine, done, Succeeded())
    with engine.begin() as tx:
        assert asked_to_stop(tx, [running_.id, stopping.id, done.id]) == {stopping.id}
        assert asked_to_stop(tx, []) == set()


def test_a_held_job_is_locked_until_its_holder_commits_and_its_mates_are_taken_over_meanwhile(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given a bundle whose lease has run out, one job of it held in an open transaction
    job, mate = claimed(engine, enqueued(engine, tenant_id, reservation(), reservation()), lease_s=-1)
    with engine.begin() as holder:
        assert hold(holder, [job]) == {job.id}
        # Then a rescuer takes only the other, without waiting, and nobody else finishes the first
        with engine.begin() as rescuer:
            rescuer.execute(text("SET LOCAL lock_timeout = '50ms'"))
            assert [taken.id for taken in take_over_expired(rescuer)] == [mate.id]
        with engine.connect() as other:
            other.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                hold(other, [job])
    # And the lease keeps it for the next pass
    assert rows(engine, "SELECT job_ids, claims FROM leases") == [([job.id], [1])]
    execute(engine, "UPDATE leases SET lease_until = now() - interval '1 second'")
    with engine.begin() as rescuer:
        assert [taken.id for taken in take_over_expired(rescuer)] == [job.id]
    assert rows(engine, "SELECT FROM leases") == []


def test_a_job_that_was_taken_over_or_has_ended_is_not_held(engine: Engine, tenant_id: UUID) -> None:
    mine, lost, done = claimed(engine, enqueued(engine, tenant_id, *(reservation() for _ in range(3))))
    execute(engine, "UPDATE jobs SET claim = 2 WHERE id = :id", id=lost.id)
    assert ended(engine, done, Succeeded())
    with engine.begin() as tx:
        assert hold(tx, [mine, lost, done]) == {mine.id}


# ---- the finish


def test_a_success_is_written_with_its_attempt_and_leaves_no_obligation(engine: Engine, job: ClaimedJob) -> None:
    (finished,) = ended(engine, job, Succeeded({"code": "DONE"}))
    assert (finished.id, finished.state, finished.outcome) == (job.id, "succeeded", "succeeded")
    stored = the_job(engine, job.id)
    assert (stored.state, stored.result) == ("succeeded", {"code": "DONE"})
    assert stored.finished_at is not None
    (attempt,) = attempts_of(engine, job.id)
    assert (attempt.number, attempt.claim, attempt.outcome, attempt.worker_id) == (1, 1, "succeeded", stored.worker_id)
    assert not is_obliged(engine, job.id)
    assert rows(engine, "SELECT FROM dead_letters") == []


def test_a_failure_is_written_with_its_attempt_and_the_next_obligation(engine: Engine, job: ClaimedJob) -> None:
    assert [finished.state for finished in ended(engine, job, FAILED)] == ["retrying"]
    stored = the_job(engine, job.id)
    assert (stored.state, stored.finished_at, stored.result) == ("retrying", None, None)
    assert stored.last_error == {"class": "OSError", "message": "the disk is full"}
    (attempt,) = attempts_of(engine, job.id)
    assert (attempt.outcome, attempt.error_class, attempt.detail) == ("retrying", "OSError", {"traceback": "File 'x'"})
    obligation = row(engine, "SELECT * FROM outbox")
    assert (obligation.job_id, obligation.due_at, obligation.rings, obligation.alone) == (
        job.id,
        stored.due_at,
        0,
        False,
    )


def test_a_job_that_gives_up_leaves_a_dead_letter_and_no_obligation(engine: Engine, job: ClaimedJob) -> None:
    assert ended(engine, job, FOR_GOOD)
    letter = row(engine, "SELECT * FROM dead_letters")
    assert (letter.job_id, letter.kind, letter.cause, letter.resolution) == (job.id, job.kind, "permanent", None)
    assert letter.snapshot["args"] == job.args
    assert letter.snapshot["error"]["message"] == "no such mailbox"
    assert (letter.fingerprint,) == tuple(attempt.fingerprint for attempt in attempts_of(engine, job.id))
    assert the_job(engine, job.id).state == "dead"
    assert not is_obliged(engine, job.id)


def test_an_ending_is_written_whole_or_not_at_all(engine: Engine) -> None:
    # Given a job whose dead letter cannot be written, since its tenant is gone
    job = running(engine, new_id(), reservation())
    before = the_job(engine, job.id)
    # When it gives up
    with pytest.raises(IntegrityError):
        ended(engine, job, FOR_GOOD)
    # Then nothing of it stands
    assert the_job(engine, job.id) == before
    assert attempts_of(engine, job.id) == []


def test_the_finish_of_a_stale_holder_is_refused(engine: Engine, tenant_id: UUID) -> None:
    # Given a worker that stalled past its lease, and another that has the job now
    stale = running(engine, tenant_id, reservation(), lease_s=-1)
    with engine.begin() as rescuer:
        assert take_over_expired(rescuer)
    make_due(engine)
    (fresh,) = claimed(engine, [stale.id])
    # When the first wakes up and finishes
    before = the_job(engine, stale.id)
    assert ended(engine, stale, Succeeded({"by": "the stale one"})) == []
    # Then nothing has changed, and the second finishes
    assert the_job(engine, stale.id) == before
    assert ended(engine, fresh, Succeeded({"by": "the fresh one"}))
    assert the_job(engine, stale.id).result == {"by": "the fresh one"}
    assert [attempt.outcome for attempt in attempts_of(engine, stale.id)] == ["crashed", "succeeded"]


def test_the_progress_of_a_stale_holder_is_not_shown(engine: Engine, job: ClaimedJob) -> None:
    with engine.begin() as tx:
        report_progress_if_held(tx, job, 1, 10, "mine")
    execute(engine, "UPDATE jobs SET claim = 2")
    with engine.begin() as tx:
        report_progress_if_held(tx, job, 9, 10, "stale")
    assert the_job(engine, job.id).progress == {"done": 1, "total": 10, "message": "mine"}


def test_a_finish_is_written_once(engine: Engine, job: ClaimedJob) -> None:
    outcomes = at_once(*[lambda: ended(engine, job, FAILED)] * 4)
    assert sorted(len(written) for written in outcomes if isinstance(written, list)) == [0, 0, 0, 1]
    assert len(attempts_of(engine, job.id)) == 1


def test_finishes_in_opposite_order_do_not_deadlock(engine: Engine, tenant_id: UUID) -> None:
    jobs = claimed(engine, enqueued(engine, tenant_id, *(reservation() for _ in range(50))))
    now = jobs[0].started_at
    finishes = [finish_of(job, FAILED, decide(1, 5, FAILED, Backoff(), now, 0.5)) for job in jobs]

    def settle_all(reverse: bool) -> int:
        with engine.begin() as tx:
            return len(settle(tx, finishes[::-1] if reverse else finishes))

    assert sorted(at_once(lambda: settle_all(False), lambda: settle_all(True))) == [0, 50]  # type: ignore[type-var]


@pytest.mark.parametrize("ending", [Snoozed(0, "too early"), Snoozed(0, "stopping", handed_back=True)])
def test_a_snooze_and_a_hand_back_return_the_attempt_but_never_the_claim(
    engine: Engine, job: ClaimedJob, ending: Ending
) -> None:
    for claim in range(2, 6):
        assert [finished.state for finished in ended(engine, job, ending)] == ["queued"]
        assert the_job(engine, job.id).attempt == 0
        (job,) = claimed(engine, [job.id])
        assert (job.claim, job.attempt) == (claim, 1)
    assert [attempt.number for attempt in attempts_of(engine, job.id)] == [1, 1, 1, 1]


def test_a_job_that_was_asked_to_stop_is_cancelled_instead_of_retried(engine: Engine, job: ClaimedJob) -> None:
    with engine.begin() as tx:
        assert cancel_unless_finished(tx, job.tenant_id, job.id) is None
    (finished,) = ended(engine, job, FAILED)
    stored = the_job(engine, job.id)
    assert (finished.state, stored.state) == ("cancelled", "cancelled")
    assert stored.finished_at is not None
    assert not is_obliged(engine, job.id)


@pytest.mark.parametrize(("ending", "state"), [(Succeeded(), "succeeded"), (FOR_GOOD, "dead")])
def test_a_job_that_was_asked_to_stop_too_late_ends_as_it_ended(
    engine: Engine, job: ClaimedJob, ending: Ending, state: str
) -> None:
    with engine.begin() as tx:
        cancel_unless_finished(tx, job.tenant_id, job.id)
    assert [finished.state for finished in ended(engine, job, ending)] == [state]


def test_many_endings_of_many_sorts_are_written_in_one_statement(engine: Engine, tenant_id: UUID) -> None:
    jobs = claimed(engine, enqueued(engine, tenant_id, *(GenerateReport(new_id()) for _ in range(4))))
    endings: list[Ending] = [Succeeded(), FAILED, FOR_GOOD, Snoozed(1, "early")]
    now = jobs[0].started_at
    finishes = [
        finish_of(job, ending, decide(1, 3, ending, Backoff(), now, 0.5))
        for job, ending in zip(jobs, endings, strict=True)
    ]
    with engine.begin() as tx:
        assert len(finish_if_held(tx, finishes)) == 4
    assert [the_job(engine, job.id).state for job in jobs] == ["succeeded", "retrying", "dead", "queued"]


def test_text_that_postgresql_refuses_does_not_keep_a_failure_from_being_written(
    engine: Engine, job: ClaimedJob
) -> None:
    assert ended(engine, job, Errored("OSError", "a\x00b \udc80 c" + "x" * 100_000, "trace\x00 \ud800"))
    assert the_job(engine, job.id).state == "retrying"
