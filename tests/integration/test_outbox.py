"""The outbox: an obligation stands with its job or not at all, rings once per visibility, and waits for nobody else."""

import pytest
from sqlalchemy import Connection, Engine, text

from domain.ids import new_id
from domain.job_kinds import DeliverWebhook, ReserveInventory
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import DueRow, enqueue, new_job, ring_due, ring_due_in_lanes
from domain.lanes.lane_rules import Observation
from domain.lanes.lanes import disable_lane, move_lanes, open_lane
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    at_once,
    emptied_database,
    enqueued,
    execute,
    module_database,
    rows,
    scalar,
)

QUEUES = ["inventory", "webhooks"]
MANY = 5_000


def reservation() -> JobArgs:
    return ReserveInventory(new_id())


def delivery() -> JobArgs:
    return DeliverWebhook(new_id(), new_id())


def lane(engine: Engine, name: str, room: int = 32) -> str:
    with engine.begin() as tx:
        open_lane(tx, name, "webhooks", room)
    return name


def rung(engine: Engine, limit: int = 1_000) -> list[DueRow]:
    with engine.begin() as tx:
        return ring_due(tx, QUEUES, limit)


def rung_in_lanes(engine: Engine, limit: int = 1_000, lanes: int = 200) -> list[DueRow]:
    with engine.begin() as tx:
        return ring_due_in_lanes(tx, QUEUES, limit, lanes)


def fill(engine: Engine, count: int, lane_name: str | None, queue: str = "webhooks") -> None:
    """Many obligations that became due an hour ago."""
    execute(
        engine,
        "INSERT INTO outbox (job_id, queue, kind, tenant_id, lane, due_at) "
        "SELECT uuidv7(), :queue, 'webhook.deliver', uuidv7(), :lane, now() - interval '1 hour' "
        "FROM generate_series(1, :count)",
        queue=queue,
        lane=lane_name,
        count=count,
    )


def park(engine: Engine, name: str, seconds: float) -> None:
    sql = "UPDATE lanes SET state = 'parked', parked_until = now() + make_interval(secs => :s) WHERE name = :name"
    execute(engine, sql, s=seconds, name=name)


def test_a_job_and_its_obligation_stand_if_and_only_if_the_callers_transaction_commits(engine: Engine) -> None:
    jobs = [new_job(reservation(), tenant_id=new_id()) for _ in range(3)]

    def enqueue_then_fail() -> None:
        with engine.begin() as tx:
            enqueue(tx, jobs)
            raise LookupError

    with pytest.raises(LookupError):
        enqueue_then_fail()
    assert scalar(engine, "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM outbox)") == 0

    with engine.begin() as tx:
        enqueue(tx, jobs)
    assert scalar(engine, "SELECT count(*) FROM jobs JOIN outbox ON job_id = id AND jobs.due_at = outbox.due_at") == 3


def test_one_job_that_cannot_be_stored_takes_all_of_its_statement_with_it(engine: Engine) -> None:
    good, twin = (new_job(reservation(), tenant_id=new_id()) for _ in range(2))
    with pytest.raises(Exception, match="duplicate key"), engine.begin() as tx:
        enqueue(tx, [good, twin, twin])
    assert scalar(engine, "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM outbox)") == 0


def test_a_first_run_in_the_future_is_scheduled_and_not_rung(engine: Engine) -> None:
    (later,) = enqueued(engine, a_tenant(engine), reservation(), due_in_s=60)
    (now,) = enqueued(engine, a_tenant(engine), reservation())
    states = dict(rows(engine, "SELECT id, state FROM jobs"))
    assert states == {later: "scheduled", now: "queued"}
    assert [row.job_id for row in rung(engine)] == [now]


def test_two_relays_at_once_ring_every_due_row_exactly_once(engine: Engine) -> None:
    ids = enqueued(engine, a_tenant(engine), *(reservation() for _ in range(400)))
    rings = at_once(*[lambda: rung(engine, 100)] * 4)
    told = [row.job_id for ring in rings if isinstance(ring, list) for row in ring]
    told += [row.job_id for row in rung(engine)]
    assert sorted(told) == sorted(ids)


def test_a_relay_skips_what_another_holds_instead_of_waiting_for_it(engine: Engine) -> None:
    enqueued(engine, a_tenant(engine), *(reservation() for _ in range(3)))
    with engine.begin() as slow:
        held = {row.job_id for row in ring_due(slow, QUEUES, 2)}
        rest = {row.job_id for row in rung(engine)}
    assert (len(held), len(rest), held & rest) == (2, 1, set())


def test_what_a_relay_rolls_back_is_due_at_once_for_the_next(engine: Engine) -> None:
    ids = enqueued(engine, a_tenant(engine), reservation())
    with engine.connect() as dying:
        ring_due(dying, QUEUES, 10)
        dying.rollback()
    assert [(row.job_id, row.rings) for row in rung(engine)] == [(ids[0], 1)]


@pytest.mark.parametrize("in_lane", [False, True])
def test_a_row_nobody_claims_rings_again_after_7_seconds_then_ever_later_up_to_60(
    engine: Engine, in_lane: bool
) -> None:
    name = lane(engine, "endpoint:1") if in_lane else None
    enqueued(engine, a_tenant(engine), delivery(), lane=name)
    for expected_s in (7, 14, 28, 56, 60, 60, 60):
        with engine.begin() as tx:
            (row,) = ring_due_in_lanes(tx, QUEUES, 10) if in_lane else ring_due(tx, QUEUES, 10)
            assert _due_in_exactly(tx, expected_s), (row.rings, expected_s)
        assert rung(engine) == rung_in_lanes(engine) == []
        execute(engine, "UPDATE outbox SET due_at = now() - interval '1 second'")


def _due_in_exactly(tx: Connection, seconds: float) -> bool:
    """The row's time was set between the start of this transaction and now."""
    since, until = tx.execute(text("SELECT due_at - now(), due_at - clock_timestamp() FROM outbox")).one()
    return bool(until.total_seconds() <= seconds <= since.total_seconds())


def test_each_queue_gets_its_share_of_a_pass_and_the_longest_due_come_first(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    ids = [enqueued(engine, tenant_id, reservation(), due_in_s=-10 + number)[0] for number in range(5)]
    (other,) = enqueued(engine, tenant_id, delivery())
    assert {row.job_id for row in rung(engine, limit=2)} == {*ids[:2], other}


def test_queues_that_were_not_asked_for_are_left_alone(engine: Engine) -> None:
    lane(engine, "endpoint:1")
    enqueued(engine, a_tenant(engine), reservation())
    enqueued(engine, a_tenant(engine), delivery(), lane="endpoint:1")
    with engine.begin() as tx:
        assert ring_due(tx, ["reports"], 10) == ring_due_in_lanes(tx, ["reports"], 10) == []


def test_a_lane_has_no_more_in_flight_than_its_room_and_gets_room_back_when_a_job_ends(engine: Engine) -> None:
    name = lane(engine, "endpoint:1", room=3)
    enqueued(engine, a_tenant(engine), *(delivery() for _ in range(10)), lane=name)
    assert [len(rung_in_lanes(engine)), len(rung_in_lanes(engine))] == [3, 0]

    with engine.begin() as tx:
        move_lanes(tx, {name: [Observation(None), Observation(None)]})
        tx.execute(text("UPDATE lanes SET room = 3"))
    assert [len(rung_in_lanes(engine)), len(rung_in_lanes(engine))] == [2, 0]


def test_two_relays_at_once_stay_within_the_room_of_a_lane(engine: Engine) -> None:
    name = lane(engine, "endpoint:1", room=5)
    enqueued(engine, a_tenant(engine), *(delivery() for _ in range(50)), lane=name)
    rings = at_once(*[lambda: rung_in_lanes(engine)] * 4)
    assert sum(len(ring) for ring in rings if isinstance(ring, list)) == 5
    assert scalar(engine, "SELECT in_flight FROM lanes WHERE name = 'endpoint:1'") == 5


def test_a_parked_lane_rings_nothing_before_its_time_and_then_one_probe_only(engine: Engine) -> None:
    name = lane(engine, "endpoint:1")
    enqueued(engine, a_tenant(engine), *(delivery() for _ in range(10)), lane=name)
    park(engine, name, seconds=60)
    assert rung_in_lanes(engine) == []

    park(engine, name, seconds=-1)
    assert [len(rung_in_lanes(engine)), len(rung_in_lanes(engine))] == [1, 0]

    # A probe whose bell was lost is followed by another, half a minute later, not by all that wait
    execute(engine, "UPDATE lanes SET in_flight = 0")
    assert rung_in_lanes(engine) == []
    park(engine, name, seconds=-1)
    assert len(rung_in_lanes(engine)) == 1


def test_a_disabled_lane_rings_nothing(engine: Engine) -> None:
    name = lane(engine, "endpoint:1")
    enqueued(engine, a_tenant(engine), delivery(), lane=name)
    with engine.begin() as tx:
        disable_lane(tx, name)
    assert rung_in_lanes(engine) == []


def test_a_lane_with_thousands_waiting_does_not_delay_another_lanes_single_row(engine: Engine) -> None:
    # Given thousands that wait for one endpoint since an hour, and one row for another since a second
    fill(engine, MANY, lane(engine, "endpoint:crowded"))
    (single,) = enqueued(engine, a_tenant(engine), delivery(), lane=lane(engine, "endpoint:quiet"))
    # When the relay passes once
    told = rung_in_lanes(engine)
    # Then the single row is rung, and of the crowd no more than its room
    assert single in {row.job_id for row in told}
    assert len(told) == 32 + 1


def test_the_lane_that_waited_longest_is_served_first(engine: Engine) -> None:
    served_before = "UPDATE lanes SET last_served = now() - make_interval(secs => :s) WHERE name = :name"
    for name, seconds in (("endpoint:a", 20), ("endpoint:b", 10), ("endpoint:c", 30)):
        fill(engine, 100, lane(engine, name, room=1000))
        execute(engine, served_before, s=seconds, name=name)
    served = [{row.lane for row in rung_in_lanes(engine, limit=10, lanes=1)} for _ in range(6)]
    assert served[:3] == [{"endpoint:c"}, {"endpoint:a"}, {"endpoint:b"}] == served[3:]


def test_the_head_of_a_queue_is_never_blocked_by_rows_of_lanes(engine: Engine) -> None:
    # Given thousands of older rows of a parked lane in the same queue
    fill(engine, MANY, lane(engine, "endpoint:crowded"))
    park(engine, "endpoint:crowded", seconds=600)
    (single,) = enqueued(engine, a_tenant(engine), delivery())
    # Then one row is enough to reach the one without a lane
    assert [row.job_id for row in rung(engine, limit=1)] == [single]


def test_the_head_of_a_queue_is_found_without_reading_what_waits_in_lanes(engine: Engine) -> None:
    fill(engine, MANY, lane(engine, "endpoint:crowded"))
    fill(engine, MANY, None, queue="reports")
    execute(engine, "ANALYZE outbox")
    sql = "EXPLAIN (ANALYZE, BUFFERS OFF, TIMING OFF) SELECT job_id FROM outbox WHERE queue = 'webhooks' "
    plan = "\n".join(
        line for (line,) in rows(engine, f"{sql} AND lane IS NULL AND due_at <= now() ORDER BY due_at LIMIT 10")
    )
    assert "ix_outbox_due" in plan
    assert "Rows Removed by Filter" not in plan
