"""Rescue: a silent worker's jobs run again, a job that keeps killing workers does not, nothing waits in vain."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, event

from domain.database import connect
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook, GenerateReport
from domain.jobs.attempts import ClaimedJob
from domain.jobs.due import due_rows, new_flows, ring_due_in_lanes
from domain.jobs.finish import FinishedJob
from domain.jobs.kind import JobArgs
from domain.jobs.rescue import Mended, mend_unheld, recount_lanes, reopen_lost_lanes, take_over_expired
from domain.jobs.retry_policy import Errored, Succeeded
from domain.lanes.lanes import open_lane
from domain.webhooks.deletion import LITTLE, delete_endpoint, deleted_endpoints, end_deleted_endpoint
from domain.webhooks.endpoints import create_endpoint, subscriber
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    SECRET_KEY,
    a_product,
    a_tenant,
    accepted,
    all_due,
    an_order,
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
from workers.bundle_rules import bundles_of
from workers.rescuer import Rescuer


def report() -> JobArgs:
    return GenerateReport(new_id())


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


def rescued(engine: Engine) -> list[FinishedJob]:
    with engine.begin() as tx:
        return take_over_expired(tx)


def rung(engine: Engine) -> list[UUID]:
    """The waiting jobs are due now. Answers those that a relay rings."""
    make_due(engine)
    with engine.begin() as tx:
        in_lanes = ring_due_in_lanes(tx)
    return [*all_due(engine), *(row.job_id for row in in_lanes)]


def crash(engine: Engine, job_id: UUID) -> None:
    """A worker takes the job and falls silent; its lease runs out and somebody notices."""
    make_due(engine)
    assert claimed(engine, [job_id], lease_s=-1)
    assert rescued(engine)


def test_a_job_whose_lease_ran_out_waits_again_and_a_crash_is_counted(engine: Engine, tenant_id: UUID) -> None:
    job = running(engine, tenant_id, report(), lease_s=-1)
    assert [(taken.id, taken.state, taken.outcome) for taken in rescued(engine)] == [(job.id, "retrying", "crashed")]
    stored = the_job(engine, job.id)
    assert (stored.state, stored.crashes, stored.attempt) == ("retrying", 1, 1)
    assert rows(engine, "SELECT FROM leases") == []
    attempt = row(engine, "SELECT * FROM attempts")
    assert (attempt.outcome, attempt.error_class, attempt.claim) == ("crashed", "Crashed", 1)
    assert is_obliged(engine, job.id)


def test_a_job_whose_lease_runs_is_left_alone(engine: Engine, tenant_id: UUID) -> None:
    job = running(engine, tenant_id, report(), lease_s=60)
    assert rescued(engine) == []
    assert the_job(engine, job.id).state == "running"


def test_what_comes_back_from_a_crash_travels_alone_and_its_mates_together(engine: Engine, tenant_id: UUID) -> None:
    # Given a bundle whose worker died, and two newer jobs of the same kind
    payloads = [DeliverWebhook(new_id(), new_id()) for _ in range(5)]
    crashed = claimed(engine, enqueued(engine, tenant_id, *payloads[:3]), lease_s=-1)
    fresh = enqueued(engine, tenant_id, *payloads[3:])
    assert len(rescued(engine)) == 3
    # When the relay rings them
    make_due(engine)
    with engine.begin() as tx:
        (flow,) = new_flows(tx, [], 10)
        (head,) = due_rows(tx, [flow], [datetime(1970, 1, 1, tzinfo=UTC)], [100])
    bundles = {tuple(bundle) for bundle in bundles_of(head.together, head.alone, 100)}
    # Then each suspect travels by itself, and the others are no suspects
    assert bundles == {tuple(map(str, fresh)), *((str(job.id),) for job in crashed)}


def test_a_job_that_crashed_and_then_failed_like_others_travels_with_others_again(
    engine: Engine, tenant_id: UUID
) -> None:
    job = running(engine, tenant_id, report(), lease_s=-1)
    rescued(engine)
    make_due(engine)
    (job,) = claimed(engine, [job.id])
    assert ended(engine, job, Errored("OSError", "the disk is full"))
    assert scalar(engine, "SELECT alone FROM outbox") is False


def test_the_third_crash_is_dead_with_a_dead_letter(engine: Engine, tenant_id: UUID) -> None:
    (job_id,) = enqueued(engine, tenant_id, DeliverWebhook(new_id(), new_id()))
    for _ in range(2):
        crash(engine, job_id)
        assert the_job(engine, job_id).state == "retrying"
    crash(engine, job_id)
    assert the_job(engine, job_id).state == "dead"
    letter = row(engine, "SELECT * FROM dead_letters")
    assert (letter.job_id, letter.cause, letter.snapshot["crashes"]) == (job_id, "crashes", 3)
    assert not is_obliged(engine, job_id)


def test_the_order_of_a_reservation_that_keeps_crashing_has_failed_and_says_so(engine: Engine, tenant_id: UUID) -> None:
    a_product(engine, tenant_id)
    (order,) = accepted(engine, [an_order(tenant_id)])
    for _ in range(3):
        assert scalar(engine, "SELECT status FROM orders") == "accepted"
        crash(engine, order.job_id)
    assert row(engine, "SELECT status, reason, version FROM orders") == ("failed", "RESERVATION_DEAD", 2)
    event = row(engine, "SELECT type, subject, data, sequence FROM events")
    assert event == (
        "order.failed",
        order.order_id,
        {"orderId": str(order.order_id), "reason": "RESERVATION_DEAD"},
        2,
    )


def test_two_rescuers_at_once_rescue_each_job_once(engine: Engine, tenant_id: UUID) -> None:
    for _ in range(20):
        claimed(engine, enqueued(engine, tenant_id, report(), report(), report()), lease_s=-1)
    passes = at_once(*[lambda: rescued(engine)] * 3)
    taken = [job.id for found in passes if isinstance(found, list) for job in found]
    assert len(taken) == len(set(taken)) == 60
    assert scalar(engine, "SELECT count(*) FROM attempts") == scalar(engine, "SELECT count(*) FROM outbox") == 60


def test_one_pass_takes_no_more_than_its_limit_and_the_next_goes_on(engine: Engine, tenant_id: UUID) -> None:
    for _ in range(5):
        claimed(engine, enqueued(engine, tenant_id, report(), report()), lease_s=-1)
    with engine.begin() as tx:
        assert len(take_over_expired(tx, limit=3)) == 6
    assert len(rescued(engine)) == 4


def test_a_worker_that_finishes_while_it_is_being_rescued_wins_or_loses_but_never_both(
    engine: Engine, tenant_id: UUID
) -> None:
    for _ in range(10):
        job = running(engine, tenant_id, report(), lease_s=-1)
        finished, taken = at_once(lambda: ended(engine, job, Succeeded()), lambda: rescued(engine))  # noqa: B023
        assert isinstance(finished, list)
        assert isinstance(taken, list)
        assert len(finished) + len(taken) == 1
        assert the_job(engine, job.id).state == ("succeeded" if finished else "retrying")


# ---- the wider nets


def test_a_waiting_job_that_lost_its_obligation_is_offered_again_once(engine: Engine, tenant_id: UUID) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", "webhooks")
    lost = enqueued(engine, tenant_id, DeliverWebhook(new_id(), new_id()), lane="endpoint:1")
    lost += enqueued(engine, tenant_id, report(), due_in_s=3_600)
    kept = enqueued(engine, tenant_id, report())
    running(engine, tenant_id, report())
    before = set(rows(engine, "SELECT job_id, queue, kind, tenant_id, lane, priority FROM outbox"))
    execute(engine, "DELETE FROM outbox WHERE job_id = ANY(:ids)", ids=lost)

    def offer() -> int:
        with engine.begin() as tx:
            return mend_unheld(tx).offered

    assert sum(found for found in at_once(offer, offer) if isinstance(found, int)) == 2
    assert offer() == 0
    assert set(rows(engine, "SELECT job_id, queue, kind, tenant_id, lane, priority FROM outbox")) == before
    assert scalar(engine, "SELECT bool_and(outbox.due_at >= jobs.due_at) FROM outbox JOIN jobs ON id = job_id")
    assert scalar(engine, "SELECT due_at > now() FROM outbox WHERE job_id = :id", id=lost[1])
    assert is_obliged(engine, kept[0])


def test_a_running_job_that_lost_its_lease_is_taken_over_once_and_no_other(engine: Engine, tenant_id: UUID) -> None:
    # Given jobs of one worker: two that nobody would ever take over, and one that is held
    lost = [running(engine, tenant_id, report()) for _ in range(2)]
    execute(engine, "DELETE FROM leases")
    held = running(engine, tenant_id, report())

    def mend() -> int:
        with engine.begin() as tx:
            return mend_unheld(tx).leased

    # When rescuers come by
    assert mend() == 2
    assert mend() == 0
    with engine.begin() as tx:
        taken = take_over_expired(tx)
    # Then they are as any job whose worker has died
    assert {job.id for job in taken} == {job.id for job in lost}
    assert {the_job(engine, job.id).state for job in lost} == {"retrying"}
    assert the_job(engine, held.id).state == "running"
    assert mend() == 0


def test_two_rescuers_that_find_the_same_lost_lease_take_its_job_over_once(engine: Engine, tenant_id: UUID) -> None:
    job = running(engine, tenant_id, report())
    execute(engine, "DELETE FROM leases")
    execute(
        engine,
        "INSERT INTO leases (id, worker_id, lease_until, job_ids, claims) "
        "SELECT uuidv7(), worker_id, now(), ARRAY[id], ARRAY[claim] FROM jobs, generate_series(1, 2)",
    )
    with engine.begin() as tx:
        assert [one.id for one in take_over_expired(tx)] == [job.id]
    assert (the_job(engine, job.id).crashes, scalar(engine, "SELECT count(*) FROM leases")) == (1, 0)


def test_the_one_that_lost_its_obligation_is_found_behind_any_number_that_have_theirs(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given a table larger than a step
    ids = enqueued(engine, tenant_id, *(report() for _ in range(5)))
    execute(engine, "DELETE FROM outbox WHERE job_id = :id", id=ids[-1])

    def step(after: UUID | None) -> Mended:
        with engine.begin() as tx:
            return mend_unheld(tx, after, limit=2)

    # When it is walked through, step by step
    steps = [step(None)]
    while steps[-1].last is not None:
        steps.append(step(steps[-1].last))
    # Then each step goes on where the last one ended, and the lost one is found once
    assert steps == [Mended(0, 0, ids[1]), Mended(0, 0, ids[3]), Mended(1, 0, ids[4]), Mended(0, 0, None)]
    assert is_obliged(engine, ids[-1])


def test_lanes_have_in_flight_what_outbox_and_leases_say(engine: Engine, tenant_id: UUID) -> None:
    # Given a lane that leaked room, with one job rung, one running and one waiting, and another that counts rightly
    for name in ("endpoint:1", "endpoint:2"):
        with engine.begin() as tx:
            open_lane(tx, name, "webhooks")
    payloads = [DeliverWebhook(new_id(), new_id()) for _ in range(3)]
    started, bell_lost, _ = enqueued(engine, tenant_id, *payloads, lane="endpoint:1")
    claimed(engine, [started])
    ring = "UPDATE outbox SET rings = 1, due_at = now() + interval '7 seconds' WHERE job_id = :id"
    execute(engine, ring, id=bell_lost)
    execute(engine, "UPDATE lanes SET in_flight = 32 WHERE name = 'endpoint:1'")
    # When they are counted
    with engine.begin() as tx:
        assert recount_lanes(tx) == 1
        assert recount_lanes(tx) == 0
    # Then only what is under way counts
    assert dict(rows(engine, "SELECT name, in_flight FROM lanes WHERE name <> 'smtp'")) == {
        "endpoint:1": 2,
        "endpoint:2": 0,
    }


def delivery_under_way(engine: Engine, tenant_id: UUID) -> tuple[ClaimedJob, UUID]:
    """And the endpoint that it speaks to."""
    with engine.begin() as tx:
        endpoint, _ = create_endpoint(tx, SECRET_KEY, tenant_id, "https://a.example/", ["*"], None)
    lane = f"endpoint:{endpoint.id}"
    return running(engine, tenant_id, DeliverWebhook(endpoint.id, new_id()), lane=lane), endpoint.id


def delivery_to_a_deleted_endpoint(engine: Engine, tenant_id: UUID) -> ClaimedJob:
    """It was speaking to the endpoint while its owner deleted that."""
    job, endpoint_id = delivery_under_way(engine, tenant_id)
    with engine.begin() as tx:
        delete_endpoint(tx, tenant_id, endpoint_id)
    return job


def test_a_delivery_that_fails_after_its_endpoint_was_deleted_does_not_wait_for_ever(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given a delivery that fails, and whose lane is gone: nobody rings it
    job = delivery_to_a_deleted_endpoint(engine, tenant_id)
    assert ended(engine, job, Errored("DeliveryFailed", "HTTP 500"))
    assert rung(engine) == []
    execute(engine, "UPDATE outbox SET due_at = now() + interval '24 hours'")
    # When the rescuer looks after lanes
    with engine.begin() as tx:
        assert reopen_lost_lanes(tx) == 1
        assert reopen_lost_lanes(tx) == 0
    # Then it is due at once, whenever that was to be, and its next attempt will find that the endpoint is gone
    assert scalar(engine, "SELECT due_at <= clock_timestamp() FROM outbox WHERE job_id = :id", id=job.id)
    assert rung(engine) == [job.id]


def test_a_delivery_that_fails_while_its_endpoint_is_deleted_does_not_wait_for_ever(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given a delivery that comes back when the owner's transaction has looked for what waits, and is not over yet
    job, endpoint_id = delivery_under_way(engine, tenant_id)

    def come_back(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "ORDER BY job_id FOR UPDATE" in statement:
            assert ended(engine, job, Errored("DeliveryFailed", "HTTP 500"))

    with engine.begin() as tx:
        event.listen(tx, "after_cursor_execute", come_back)
        delete_endpoint(tx, tenant_id, endpoint_id)
    # Then nothing is left for retention to end, within the hour, and it is rung as others are
    with engine.begin() as tx:
        assert deleted_endpoints(tx) == []
        reopen_lost_lanes(tx)
    assert rung(engine) == [job.id]


def test_a_delivery_that_fails_does_not_wait_for_what_was_delivered_before_its_endpoint_was_deleted(
    engine: Engine, tenant_id: UUID
) -> None:
    # Given one under way, to an endpoint with a history that is not forgotten at once, when the endpoint is deleted
    job, endpoint_id = delivery_under_way(engine, tenant_id)
    execute(
        engine,
        "INSERT INTO webhook_deliveries (job_id, tenant_id, endpoint_id, event_id, endpoint_version) "
        "SELECT uuidv7(), :tenant_id, :endpoint_id, uuidv7(), 1 FROM generate_series(0, :past)",
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        past=LITTLE,
    )
    with engine.begin() as tx:
        delete_endpoint(tx, tenant_id, endpoint_id)
        assert deleted_endpoints(tx) == [(tenant_id, endpoint_id)]
    # Then it is rung as others are, before retention comes by
    assert ended(engine, job, Errored("DeliveryFailed", "HTTP 500"))
    with engine.begin() as tx:
        reopen_lost_lanes(tx)
    assert rung(engine) == [job.id]
    # And finds no endpoint; the history goes all the same
    with engine.begin() as tx:
        assert subscriber(tx, SECRET_KEY, tenant_id, endpoint_id) is None
        assert end_deleted_endpoint(tx, tenant_id, endpoint_id)
        assert deleted_endpoints(tx) == []


def test_the_rescuer_does_all_of_it_by_itself(engine: Engine, tenant_id: UUID) -> None:
    job = delivery_to_a_deleted_endpoint(engine, tenant_id)
    assert ended(engine, job, Errored("DeliveryFailed", "HTTP 500"))
    (unheld,) = enqueued(engine, tenant_id, report())
    execute(engine, "DELETE FROM outbox WHERE job_id = :id", id=unheld)
    silent = running(engine, tenant_id, report(), lease_s=-1)
    assert Rescuer(engine).turn() == 1
    assert set(rung(engine)) == {job.id, unheld, silent.id}


def test_the_rescuer_waits_out_an_outage() -> None:
    assert Rescuer(connect("postgresql://nobody@127.0.0.1:1/none", process="test")).turn() == 0
