"""The outbox: an obligation stands with its job or not at all, is found when it is due, and waits for nobody else."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from domain.database import database_clock, database_time
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook, ReserveInventory
from domain.jobs.due import (
    NOBODY_IS_CLOSED,
    Closed,
    DueRows,
    FlowKey,
    LaneRow,
    due_rows,
    new_flows,
    ring_due_in_lanes,
)
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.lanes.lane_rules import FIRST_PARK_S, Observation
from domain.lanes.lanes import disable_lane, move_lanes, open_lane
from ops.explain import Case, plan
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    all_due,
    at_once,
    emptied_database,
    enqueued,
    execute,
    module_database,
    rows,
    scalar,
)

EVER = datetime(1970, 1, 1, tzinfo=UTC)
MANY = 5_000


def reservation() -> JobArgs:
    return ReserveInventory(new_id())


def delivery() -> JobArgs:
    return DeliverWebhook(new_id(), new_id())


def lane(engine: Engine, name: str, room: int = 32) -> str:
    with engine.begin() as tx:
        open_lane(tx, name, "webhooks", room)
    return name


def heads(engine: Engine, flows: Sequence[FlowKey], limit: int, since: datetime = EVER) -> list[DueRows]:
    with engine.begin() as tx:
        return due_rows(tx, flows, [since] * len(flows), [limit] * len(flows))


def rung_in_lanes(
    engine: Engine,
    limit: int = 1_000,
    lanes: int = 200,
    closed: Closed = NOBODY_IS_CLOSED,
    most: Mapping[str, int] | None = None,
) -> list[LaneRow]:
    """`most` names queues and kinds of which only so many may ring."""
    left = Counter(most)

    def allow(flow: FlowKey, wanted: int) -> int:
        limited = {flow.queue, flow.kind} & left.keys()
        if any(left[name] < wanted for name in limited):
            return 0
        left.subtract(dict.fromkeys(limited, wanted))
        return wanted

    with engine.begin() as tx:
        return ring_due_in_lanes(tx, closed, allow, limit, lanes)


def fill(engine: Engine, count: int, lane_name: str | None, queue: str = "webhooks") -> None:
    """Many obligations that became due an hour ago."""
    execute(
        engine,
        "INSERT INTO outbox (job_id, queue, kind, tenant_id, lane, due_at) "
        "SELECT uuidv7(), :queue, 'webhook.deliver', :tenant_id, :lane, now() - interval '1 hour' "
        "FROM generate_series(1, :count)",
        tenant_id=new_id(),
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


def test_a_job_is_due_when_it_is_enqueued_not_since_its_transaction_began(engine: Engine) -> None:
    """The relay does not look further back than it must: a long transaction's jobs are not behind it at once."""
    tenant_id = a_tenant(engine)
    with engine.begin() as tx:
        began = tx.execute(text("SELECT now()")).scalar_one()
        reached = tx.execute(text("SELECT clock_timestamp() FROM pg_sleep(0.01)")).scalar_one()
        enqueue(tx, [new_job(reservation(), tenant_id=tenant_id)])
    ((due_at, of_job, state),) = rows(
        engine, "SELECT o.due_at, j.due_at, state FROM outbox AS o JOIN jobs AS j ON id = job_id"
    )
    assert began < reached <= due_at == of_job
    assert state == "queued"


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
    assert all_due(engine) == [now]


def test_two_relays_at_once_ring_every_due_row_exactly_once(engine: Engine) -> None:
    # Whoever leads may change in the middle of a pass: in lanes, where rings are written down, none is doubled
    ids = [
        job_id
        for number in range(4)
        for job_id in enqueued(
            engine,
            a_tenant(engine),
            *(delivery() for _ in range(100)),
            lane=lane(engine, f"endpoint:{number}", room=100),
        )
    ]
    rings = at_once(*[lambda: rung_in_lanes(engine)] * 4)
    told = [row.job_id for ring in rings if isinstance(ring, list) for row in ring]
    told += [row.job_id for row in rung_in_lanes(engine)]
    assert sorted(told) == sorted(ids)


def test_a_relay_skips_what_another_holds_instead_of_waiting_for_it(engine: Engine) -> None:
    for name in ("endpoint:1", "endpoint:2"):
        enqueued(engine, a_tenant(engine), delivery(), lane=lane(engine, name))
    with engine.begin() as slow:
        held = {row.job_id for row in ring_due_in_lanes(slow, lanes=1)}
        rest = {row.job_id for row in rung_in_lanes(engine)}
    assert (len(held), len(rest), held & rest) == (1, 1, set())


def test_what_a_relay_rolls_back_is_due_at_once_for_the_next(engine: Engine) -> None:
    ids = enqueued(engine, a_tenant(engine), delivery(), lane=lane(engine, "endpoint:1"))
    with engine.connect() as dying:
        assert ring_due_in_lanes(dying)
        dying.rollback()
    assert [(row.job_id, row.rings) for row in rung_in_lanes(engine)] == [(ids[0], 1)]


def test_a_row_nobody_claims_rings_again_after_7_seconds_then_ever_later_up_to_60(engine: Engine) -> None:
    # In a lane, where the row itself knows; what the relay remembers of the others is `workers.flows`
    enqueued(engine, a_tenant(engine), delivery(), lane=lane(engine, "endpoint:1"))
    for expected_s in (7, 14, 28, 56, 60, 60, 60):
        with engine.begin() as tx:
            (row,) = ring_due_in_lanes(tx)
            assert _due_in_exactly(tx, expected_s), (row.rings, expected_s)
        assert rung_in_lanes(engine) == []
        execute(engine, "UPDATE outbox SET due_at = now() - interval '1 second'")


def _due_in_exactly(tx: Connection, seconds: float) -> bool:
    """The row's time was set between the start of this transaction and now."""
    since, until = tx.execute(text("SELECT due_at - now(), due_at - clock_timestamp() FROM outbox")).one()
    return bool(until.total_seconds() <= seconds <= since.total_seconds())


def test_each_tenant_has_a_flow_of_its_own_per_queue_and_kind_and_known_ones_are_not_named_again(
    engine: Engine,
) -> None:
    # Given rows of two tenants, two kinds, in a lane, and due later
    one, two = a_tenant(engine, "one"), a_tenant(engine, "two")
    enqueued(engine, one, reservation(), reservation(), delivery())
    enqueued(engine, two, reservation())
    enqueued(engine, one, delivery(), lane=lane(engine, "endpoint:1"))
    (later,) = enqueued(engine, two, delivery(), due_in_s=60)
    expected = {
        FlowKey("inventory", "inventory.reserve", one),
        FlowKey("inventory", "inventory.reserve", two),
        FlowKey("webhooks", "webhook.deliver", one),
        FlowKey("webhooks", "webhook.deliver", two),
    }
    with engine.begin() as tx:
        assert set(new_flows(tx, [], 10)) == expected
        for known in expected:
            assert set(new_flows(tx, [known], 10)) == expected - {known}
            assert new_flows(tx, list(expected - {known}), 10) == [known]
        assert new_flows(tx, list(expected), 10) == []
        assert len(new_flows(tx, [], 3)) == 3
        assert new_flows(tx, [FlowKey("a", "b", one), FlowKey("z", "z", two), *expected], 10) == []
    assert later not in all_due(engine)


def test_the_head_of_a_flow_is_what_is_due_longest_and_others_have_heads_of_their_own(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    ids = [enqueued(engine, tenant_id, reservation(), due_in_s=-10 + number)[0] for number in range(5)]
    (other,) = enqueued(engine, tenant_id, delivery())
    flows = [
        FlowKey("webhooks", "webhook.deliver", tenant_id),
        FlowKey("inventory", "inventory.reserve", tenant_id),
        FlowKey("none", "such", tenant_id),
    ]
    deliveries, reservations, none = heads(engine, flows, limit=2)
    assert (deliveries.together, reservations.together, none.together) == (
        [str(other)],
        [str(job_id) for job_id in ids[:2]],
        [],
    )
    assert (reservations.oldest, none.oldest) == (scalar(engine, "SELECT min(due_at) FROM outbox"), None)
    assert heads(engine, [], limit=2) == []


def test_within_a_flow_the_higher_priority_goes_first_and_then_who_was_due_first(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    placed: dict[tuple[int, int], UUID] = {}
    for priority in (0, 2, -2, 1):
        for age in (3, 9):
            (placed[-priority, -age],) = enqueued(engine, tenant_id, reservation(), due_in_s=-age, priority=priority)
    assert all_due(engine) == [placed[place] for place in sorted(placed)]


def test_a_scan_that_starts_late_skips_what_was_due_before(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    enqueued(engine, tenant_id, reservation(), due_in_s=-3_600, priority=2)
    (young,) = enqueued(engine, tenant_id, reservation(), due_in_s=-1)
    since = scalar(engine, "SELECT now() - interval '1 minute'")
    (head,) = heads(engine, [FlowKey("inventory", "inventory.reserve", tenant_id)], 10, since)
    assert head.together == [str(young)]


def test_the_lanes_of_closed_queues_are_left_alone_and_of_a_capped_one_only_so_many_ring(engine: Engine) -> None:
    for number in range(3):
        name = lane(engine, f"endpoint:{number}")
        enqueued(engine, a_tenant(engine), delivery(), delivery(), lane=name)
    assert rung_in_lanes(engine, closed=Closed(queues=["webhooks"])) == []
    assert len(rung_in_lanes(engine, most={"webhooks": 4})) == 4
    assert len(rung_in_lanes(engine, closed=Closed(queues=["reports"]))) == 2


def test_of_a_limited_kind_only_so_many_ring_over_all_lanes_and_of_the_others_all(engine: Engine) -> None:
    tenant_id = a_tenant(engine)
    mails = [enqueued(engine, tenant_id, reservation(), lane=lane(engine, f"endpoint:{n}"))[0] for n in range(3)]
    others = {enqueued(engine, tenant_id, delivery(), lane=f"endpoint:{n}")[0] for n in range(3)}
    told = {row.job_id for row in rung_in_lanes(engine, most={"inventory.reserve": 2})}
    assert (len(told & set(mails)), told - set(mails)) == (2, others)
    assert rung_in_lanes(engine, closed=Closed(kinds=["inventory.reserve"])) == []
    assert len(rung_in_lanes(engine)) == 1


def test_a_tenant_that_is_closed_is_so_in_that_queue_or_kind_only(engine: Engine) -> None:
    name, full, other = lane(engine, "endpoint:1"), a_tenant(engine, "full"), a_tenant(engine, "other")
    (mine,) = enqueued(engine, full, reservation(), lane=name)
    (not_now,) = enqueued(engine, full, delivery(), lane=name)
    (theirs,) = enqueued(engine, other, delivery(), lane=name)
    of_kind = Closed(tenants_of_kinds=[("webhook.deliver", str(full))])
    assert {row.job_id for row in rung_in_lanes(engine, closed=of_kind)} == {mine, theirs}
    assert rung_in_lanes(engine, closed=Closed(tenants_of_queues=[("webhooks", str(full))])) == []
    elsewhere = Closed(tenants_of_queues=[("inventory", str(full)), ("webhooks", str(other))])
    assert [row.job_id for row in rung_in_lanes(engine, closed=elsewhere)] == [not_now]


def test_a_tenant_that_is_closed_as_a_whole_gets_nothing_of_any_lane(engine: Engine) -> None:
    name, suspended, other = lane(engine, "endpoint:1"), a_tenant(engine, "suspended"), a_tenant(engine, "other")
    enqueued(engine, suspended, reservation(), delivery(), lane=name)
    (theirs,) = enqueued(engine, other, delivery(), lane=name)
    assert [row.job_id for row in rung_in_lanes(engine, closed=Closed(tenants=[str(suspended)]))] == [theirs]


def test_tenants_share_the_room_of_a_lane_evenly_however_much_each_has_waiting(engine: Engine) -> None:
    name = lane(engine, "endpoint:1", room=10)
    fill(engine, MANY, name)
    for tenant in ("one", "two", "three"):
        enqueued(engine, a_tenant(engine, tenant), *(delivery() for _ in range(5)), lane=name)
    told = [row.job_id for row in rung_in_lanes(engine)]
    per_tenant = Counter(tenant for (tenant,) in rows(
        engine, "SELECT tenant_id FROM outbox WHERE job_id = ANY(CAST(:ids AS uuid[]))", ids=told
    ))  # fmt: skip
    assert sorted(per_tenant.values()) == [2, 2, 2, 2]
    assert len(rung_in_lanes(engine)) == 2


def test_within_a_flow_of_a_lane_the_higher_priority_goes_first_and_then_who_was_due_first(engine: Engine) -> None:
    name, tenant_id = lane(engine, "endpoint:1", room=1), a_tenant(engine)
    plain = [enqueued(engine, tenant_id, delivery(), lane=name, due_in_s=-due)[0] for due in (9.0, 30.0)]
    urgent = [enqueued(engine, tenant_id, delivery(), lane=name, due_in_s=-due, priority=2)[0] for due in (1.0, 5.0)]
    told = []
    for _ in range(4):
        told += [row.job_id for row in rung_in_lanes(engine)]
        execute(engine, "UPDATE lanes SET in_flight = 0")
    assert told == [*reversed(urgent), *reversed(plain)]


@pytest.mark.parametrize("closed", [False, True])
def test_a_pass_over_lanes_reads_nothing_of_a_backlog_that_it_does_not_ring(engine: Engine, closed: bool) -> None:
    fill(engine, MANY, lane(engine, "endpoint:crowded", room=5))
    fill(engine, MANY, None)
    tenant_id = scalar(engine, "SELECT tenant_id FROM outbox WHERE lane IS NOT NULL LIMIT 1")
    execute(engine, "ANALYZE outbox")
    who = Closed(tenants_of_queues=[("webhooks", str(tenant_id))] if closed else [])
    look = Case("lanes", lambda tx, _: ring_due_in_lanes(tx, who, lambda _flow, _wanted: 0))
    lines = "\n".join(plan(engine, look, tenant_id))
    assert "ix_outbox_lane" in lines
    read = re.findall(r"(?:rows=|Rows Removed by Filter: )(\d+)", lines)
    assert max(int(count) for count in read) <= 10


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

    # A probe whose bell was lost is followed by another as soon as it counts as lost, not by all that wait
    execute(engine, "UPDATE lanes SET in_flight = 0")
    assert [len(rung_in_lanes(engine)), len(rung_in_lanes(engine))] == [1, 0]


def test_each_probe_that_fails_parks_its_lane_for_longer(engine: Engine) -> None:
    """Only probes do: what was in flight when the lane was parked tells what is known already."""
    name = lane(engine, "endpoint:1", room=8)
    enqueued(engine, a_tenant(engine), *(delivery() for _ in range(20)), lane=name)
    failure = Observation(False, 10)

    def parked_for(*seen: Observation) -> float:
        with engine.begin() as tx:
            database_time.hear(database_clock(tx))
            move_lanes(tx, {name: seen})
        wait: timedelta = scalar(engine, "SELECT parked_until - now() FROM lanes WHERE name = :name", name=name)
        return round(wait.total_seconds() / FIRST_PARK_S)

    assert len(rung_in_lanes(engine)) == 8
    assert parked_for(*[failure] * 6) == 1
    assert parked_for(*[failure] * 2) == 1
    for doubled in (2, 4, 8):
        park(engine, name, seconds=-1)
        assert len(rung_in_lanes(engine)) == 1
        assert parked_for(failure) == doubled


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
    lane_of: dict[UUID, str] = dict(rows(engine, "SELECT job_id, lane FROM outbox"))
    served = [{lane_of[row.job_id] for row in rung_in_lanes(engine, limit=10, lanes=1)} for _ in range(6)]
    assert served[:3] == [{"endpoint:c"}, {"endpoint:a"}, {"endpoint:b"}] == served[3:]


def test_the_head_of_a_flow_is_never_blocked_by_rows_of_lanes(engine: Engine) -> None:
    # Given thousands of older rows of a parked lane in the same queue
    fill(engine, MANY, lane(engine, "endpoint:crowded"))
    park(engine, "endpoint:crowded", seconds=600)
    (single,) = enqueued(engine, a_tenant(engine), delivery())
    # Then one row is enough to reach the one without a lane
    assert all_due(engine, limit=1) == [single]


def test_the_head_of_a_flow_is_found_without_reading_what_waits_elsewhere(engine: Engine) -> None:
    fill(engine, MANY, lane(engine, "endpoint:crowded"))
    fill(engine, MANY, None)
    fill(engine, MANY, None, queue="reports")
    execute(engine, "ANALYZE outbox")
    tenant_id = scalar(engine, "SELECT tenant_id FROM outbox WHERE lane IS NULL AND queue = 'webhooks' LIMIT 1")
    sql = (
        "EXPLAIN (ANALYZE, BUFFERS OFF, TIMING OFF) SELECT job_id FROM outbox WHERE queue = 'webhooks' "
        "AND kind = 'webhook.deliver' AND tenant_id = :tenant_id AND lane IS NULL "
        "AND due_at >= now() - interval '1 day' AND due_at <= now() ORDER BY priority DESC, due_at LIMIT 10"
    )
    plan = "\n".join(line for (line,) in rows(engine, sql, tenant_id=tenant_id))
    assert "ix_outbox_due" in plan
    assert "Sort" not in plan
    assert "Rows Removed by Filter" not in plan
