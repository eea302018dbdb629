"""The relay on real servers: what is due is rung, tenants in turn, within what operators allow, by one of many."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from domain.aftermath import settle
from domain.database import connect
from domain.fleet import leadership
from domain.fleet.leadership import Leadership
from domain.ids import new_id
from domain.job_kinds import GenerateReport, MailOrderConfirmed, ReserveInventory
from domain.jobs.attempts import ClaimedJob
from domain.jobs.controls import Scope, limit, pause, resume
from domain.jobs.finish import plain_finish_of
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.relay_bell import MOST_IN_HINT, RELAY_BELL, Hint, hint_for, hint_in, relay_bell
from domain.jobs.rescue import recount_lanes, take_over_expired
from domain.jobs.retry_policy import Snoozed
from domain.lanes.lanes import open_lane
from domain.tenants.tenants import resume_if_suspended, suspend_if_active
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    claimed,
    declarations,
    emptied_database,
    ended,
    enqueued,
    eventually,
    execute,
    known,
    module_database,
    rows,
    scalar,
)
from workers import flows, relay
from workers.broker import HIGH_WATER_BELLS, bell, bell_list, bells_waiting, connect_redis, ring_relay
from workers.flows import SMALLEST_WINDOW
from workers.relay import Relay

QUEUE, KIND = "test", "test.errand"
END_WHEN_SILENT = leadership._END_WHEN_SILENT

with declarations():  # known while a test of this module runs, see `kinds`

    class Errand(JobArgs, kind=KIND, queue=QUEUE):
        """What most tests enqueue."""

        word: str = ""

    class Chore(JobArgs, kind="test.chore", queue=QUEUE):
        """Another kind of the same queue."""

        word: str = ""


@pytest.fixture(autouse=True)
def kinds() -> Iterator[None]:
    with known(Errand, Chore):
        yield


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls are obeyed in the next pass, and nobody leads no more because a test takes its time."""
    monkeypatch.setattr(relay, "_CONTROLS_EVERY_S", -1.0)
    monkeypatch.setattr(leadership, "_END_WHEN_SILENT", text("SET idle_session_timeout = 60000"))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect_redis(redis_url) as client:
        yield client


StartRelay = Callable[[], Relay]


@pytest.fixture
def start_relay(database_url: str, redis: Redis) -> Iterator[StartRelay]:
    """Relays as their processes make them."""
    started: list[tuple[Relay, Engine]] = []

    def start() -> Relay:
        engine = connect(database_url, process="relay", pool_size=3, idle_in_transaction_ms=2_000, hot=True)
        started.append((Relay(engine, redis), engine))
        return started[-1][0]

    yield start
    for one, engine in started:
        one.close()
        engine.dispose()


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


class Crew:
    """Workers: they hear bells, claim, and end what they claimed when they are told."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        self._engine, self._redis = engine, redis
        self.running: list[ClaimedJob] = []

    def hear(self, most: int = 1_000, queue: str = QUEUE) -> list[ClaimedJob]:
        """So many bells are taken, and the jobs of each claimed."""
        heard = [job for _, ids in _popped(self._redis, queue, most) for job in claimed(self._engine, ids)]
        self.running += heard
        return heard

    def finish(self, count: int = 10_000) -> None:
        done, self.running = self.running[:count], self.running[count:]
        with self._engine.begin() as tx:
            assert len(settle(tx, [plain_finish_of(job) for job in done])) == len(done)


@pytest.fixture
def crew(engine: Engine, redis: Redis) -> Crew:
    return Crew(engine, redis)


def _popped(redis: Redis, queue: str, most: int) -> list[tuple[str, list[UUID]]]:
    found: Any = redis.lpop(bell_list(queue), most) or []
    return [(kind, [UUID(word) for word in ids]) for kind, ids in (json.loads(data)["args"] for data in found)]


def bundles(redis: Redis, queue: str = QUEUE) -> list[tuple[str, list[UUID]]]:
    """The bells that wait, in order."""
    found: Any = redis.lrange(bell_list(queue), 0, -1)
    return [(kind, [UUID(word) for word in ids]) for kind, ids in (json.loads(data)["args"] for data in found)]


def rung(redis: Redis, queue: str = QUEUE) -> list[UUID]:
    return [job_id for _, ids in bundles(redis, queue) for job_id in ids]


def depth(redis: Redis, queue: str = QUEUE) -> int:
    return bells_waiting(redis, [queue])[queue]


def fill(
    engine: Engine,
    tenant_id: UUID,
    count: int,
    *,
    kind: str = KIND,
    age_s: float = 3_600.0,
    priority: int = 0,
    lane: str | None = None,
) -> None:
    """Many jobs that became due so long ago, all in one statement."""
    execute(
        engine,
        "WITH ids AS MATERIALIZED (SELECT uuidv7() AS id FROM generate_series(1, :count)), "
        "made AS (INSERT INTO jobs (id, tenant_id, kind, queue, state, priority, args, max_attempts, due_at) "
        "         SELECT id, :tenant, :kind, 'test', 'queued', :priority, '{}', 3, now() - :age * interval '1 s' "
        "           FROM ids) "
        "INSERT INTO outbox (job_id, queue, kind, tenant_id, priority, lane, due_at) "
        "SELECT id, 'test', :kind, :tenant, :priority, :lane, now() - :age * interval '1 s' FROM ids",
        count=count,
        tenant=tenant_id,
        kind=kind,
        age=age_s,
        priority=priority,
        lane=lane,
    )


def errands(engine: Engine, tenant_id: UUID, count: int, **more: Any) -> list[UUID]:
    return enqueued(engine, tenant_id, *(Errand() for _ in range(count)), **more)


def tenants_of(jobs: Sequence[ClaimedJob]) -> Counter[UUID]:
    return Counter(job.tenant_id for job in jobs)


def control(engine: Engine, scope: Scope, name: str, **limits: float) -> None:
    with engine.begin() as tx:
        limit(tx, scope, name, limits, "olga@harbour")


def cut_off(engine: Engine) -> None:
    """Every session of the relays ends."""
    execute(
        engine,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE '%relay%'",
    )


# ---- what is due


def test_what_is_due_is_rung_once_in_bundles_of_its_kind(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    reservations = enqueued(engine, tenant_id, *(ReserveInventory(new_id()) for _ in range(130)))
    reports = enqueued(engine, tenant_id, GenerateReport(new_id()), GenerateReport(new_id()))
    mails = enqueued(engine, tenant_id, MailOrderConfirmed(new_id()), MailOrderConfirmed(new_id()))
    enqueued(engine, tenant_id, ReserveInventory(new_id()), due_in_s=60)
    one = start_relay()
    assert [one.ring_once(), one.ring_once()] == [134, 0]
    assert {kind for kind, _ in bundles(redis, "inventory")} == {"inventory.reserve"}
    assert sorted(rung(redis, "inventory")) == sorted(reservations)
    assert sorted(bundles(redis, "reports")) == sorted(("report.generate", [job_id]) for job_id in reports)
    assert sorted(rung(redis, "email")) == sorted(mails)


def test_a_queue_of_a_kind_that_only_newer_code_knows_is_rung_too(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    errands(engine, tenant_id, 1)
    execute(engine, "UPDATE outbox SET queue = 'newer', kind = 'newer.kind'")
    assert start_relay().ring_once() == 1
    assert [kind for kind, _ in bundles(redis, "newer")] == ["newer.kind"]


def test_bundles_are_of_one_while_idle_and_grow_while_behind(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    one = start_relay()
    errands(engine, tenant_id, 3)
    one.ring_once()
    assert [len(ids) for _, ids in bundles(redis)] == [1, 1, 1]
    # When workers take whatever rings as fast as it does
    fill(engine, tenant_id, 4_000, age_s=0.0)
    sizes = []
    while crew.hear() or one.ring_once():
        one.ring_once()
        sizes.append(max((len(ids) for _, ids in bundles(redis)), default=0))
    assert max(sizes) == 100
    assert len(crew.running) == len({job.id for job in crew.running}) == 4_003


def test_while_nobody_claims_redis_stays_shallow(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    fill(engine, tenant_id, 1_000)
    one = start_relay()
    for _ in range(5):
        one.ring_once()
    assert len(rung(redis)) == SMALLEST_WINDOW


def test_a_queue_that_is_full_gets_no_more_and_the_others_do(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    one = start_relay()
    errands(engine, tenant_id, 1)
    assert one.ring_once() == 1
    redis.rpush(bell_list(QUEUE), *[bell(QUEUE, KIND, [])] * (HIGH_WATER_BELLS - 1))
    errands(engine, tenant_id, 1, due_in_s=0)
    errands(engine, tenant_id, 1, lane="endpoint:1")
    enqueued(engine, tenant_id, GenerateReport(new_id()))
    eventually(lambda: one.ring_once() and depth(redis, "reports") == 1)
    assert [one.ring_once(), depth(redis)] == [0, HIGH_WATER_BELLS]
    redis.rpop(bell_list(QUEUE), 2)
    assert [one.ring_once(), depth(redis)] == [2, HIGH_WATER_BELLS]


def test_a_row_that_was_committed_late_is_rung_although_the_relay_has_read_past_its_time(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    one = start_relay()
    late = new_job(Errand(), tenant_id=tenant_id)
    # Given a transaction that stays open while newer rows come, and are rung
    with engine.begin() as slow:
        enqueue(slow, [late])
        newer = errands(engine, tenant_id, 3, due_in_s=0)
        eventually(lambda: one.ring_once() or len(rung(redis)) == 3)
        one.ring_once()
    assert sorted(rung(redis)) == sorted(newer)
    # When it commits, the row is rung in the next pass
    one.ring_once()
    assert set(rung(redis)) == {*newer, late.id}


def test_a_row_that_was_committed_very_late_is_found_when_the_relay_looks_back_all_the_way(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = start_relay()
    errands(engine, tenant_id, 1)
    one.ring_once()
    crew.hear()
    one.ring_once()
    errands(engine, tenant_id, 1, due_in_s=-3_600)
    assert [one.ring_once(), depth(redis)] == [0, 0]
    monkeypatch.setattr(flows, "LOOK_BACK_ALL_EVERY_S", -1.0)
    assert [one.ring_once(), depth(redis)] == [1, 1]


# ---- whose turn it is


def test_a_single_job_is_rung_in_the_next_pass_whoever_has_20_000_waiting(
    engine: Engine, redis: Redis, crew: Crew, start_relay: StartRelay
) -> None:
    crowd, lone = a_tenant(engine, "crowd"), a_tenant(engine, "lone")
    fill(engine, crowd, 20_000)
    one = start_relay()
    for _ in range(3):
        one.ring_once()
        crew.hear()
    (single,) = errands(engine, lone, 1)
    # Then it is found in this pass, and rings in it or in the next, before what rings with it
    one.ring_once()
    if single not in rung(redis):
        crew.hear()
        one.ring_once()
    assert rung(redis)[0] == single


def test_a_single_job_is_rung_next_even_if_room_comes_one_job_at_a_time(
    engine: Engine, redis: Redis, crew: Crew, start_relay: StartRelay
) -> None:
    # Given a crowd that has filled the window, and workers that take one job at a time
    crowd, lone = a_tenant(engine, "crowd"), a_tenant(engine, "lone")
    fill(engine, crowd, 500)
    one = start_relay()
    one.ring_once()
    (single,) = errands(engine, lone, 1)
    # Then the first room there is, once it has been found, goes to the other tenant
    for _ in range(2):
        crew.hear(1)
        one.ring_once()
    assert single in rung(redis)


def test_tenants_share_what_is_rung_evenly_however_much_each_has_waiting(
    engine: Engine, crew: Crew, start_relay: StartRelay
) -> None:
    few, many, most = (a_tenant(engine, name) for name in ("few", "many", "most"))
    one = start_relay()
    for tenant, count in ((most, 9_000), (many, 3_000), (few, 20)):
        fill(engine, tenant, count)
    for _ in range(5):
        one.ring_once()
        crew.hear()
    shares = tenants_of(crew.running)
    assert shares[few] == 20
    assert shares[many] < 3_000
    assert abs(shares[many] - shares[most]) <= 6


def test_of_more_tenants_than_a_pass_serves_each_has_its_turn(
    engine: Engine, crew: Crew, start_relay: StartRelay
) -> None:
    tenants = [a_tenant(engine, f"tenant-{number}") for number in range(150)]
    for tenant in tenants:
        fill(engine, tenant, 40)
    one = start_relay()
    for _ in range(60):
        one.ring_once()
        crew.hear()
        if len(tenants_of(crew.running)) == len(tenants):
            break
    assert set(tenants_of(crew.running)) == set(tenants)


def test_within_a_tenant_the_higher_priority_is_rung_first(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    fill(engine, tenant_id, 500)
    one = start_relay()
    one.ring_once()
    (urgent,) = errands(engine, tenant_id, 1, priority=2)
    crew.hear(1)
    one.ring_once()
    assert rung(redis)[-1] == urgent


def test_a_crowd_of_urgent_jobs_hides_the_others_only_while_it_lasts(
    engine: Engine, tenant_id: UUID, crew: Crew, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a relay that never looks back all the way, and jobs that have waited for long
    monkeypatch.setattr(flows, "LOOK_BACK_ALL_EVERY_S", float("inf"))
    one = start_relay()
    fill(engine, tenant_id, 30, priority=-2)
    fill(engine, tenant_id, 30, priority=0)
    one.ring_once()
    # When more urgent ones come than a pass reads, and all are done
    fill(engine, tenant_id, 300, priority=2, age_s=0.0)
    for _ in range(30):
        one.ring_once()
        crew.hear()
        crew.finish()
    # Then nobody has been left behind
    assert scalar(engine, "SELECT count(*) FROM outbox") == 0


# ---- what operators allow


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
@pytest.mark.parametrize(("scope", "name"), [("queue", QUEUE), ("kind", KIND)])
def test_what_is_paused_is_not_rung_until_it_is_resumed(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, scope: Any, name: str, lane: str | None
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
        pause(tx, scope, name, "olga@harbour", "the mail server moves")
    errands(engine, tenant_id, 3, lane=lane)
    one = start_relay()
    assert [one.ring_once(), depth(redis)] == [0, 0]
    with engine.begin() as tx:
        resume(tx, scope, name, "olga@harbour")
    assert one.ring_once() == 3


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
def test_nothing_of_a_suspended_tenant_is_rung_until_it_is_resumed_and_the_others_jobs_go_on(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, lane: str | None
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
        suspend_if_active(tx, tenant_id, "olga@harbour", "the bill is open")
    errands(engine, tenant_id, 3, lane=lane)
    theirs = errands(engine, a_tenant(engine, "another"), 1, lane=lane)
    one = start_relay()
    assert [one.ring_once(), rung(redis)] == [1, theirs]
    with engine.begin() as tx:
        resume_if_suspended(tx, tenant_id, "olga@harbour")
    assert one.ring_once() == 3


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
def test_thousands_of_a_paused_kind_do_not_stand_in_the_way_of_others(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, lane: str | None
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
        pause(tx, "kind", "test.chore", "olga@harbour")
    fill(engine, tenant_id, 5_000, kind="test.chore")
    execute(engine, "UPDATE outbox SET lane = :lane", lane=lane)
    ids = errands(engine, tenant_id, 2, lane=lane)
    assert start_relay().ring_once() == 2
    assert sorted(rung(redis)) == sorted(ids)


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
@pytest.mark.parametrize(("scope", "name"), [("queue", QUEUE), ("kind", KIND)])
def test_no_more_are_rung_or_running_than_the_cap_allows(  # noqa: PLR0913, PLR0917  # fixtures
    engine: Engine,
    redis: Redis,
    tenant_id: UUID,
    crew: Crew,
    start_relay: StartRelay,
    scope: Any,
    name: str,
    lane: str | None,
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    control(engine, scope, name, max_in_flight=5)
    errands(engine, tenant_id, 40, lane=lane)
    one, done = start_relay(), 0
    for step in range(60):
        one.ring_once()
        one.ring_once()
        assert len(set(rung(redis))) + len(crew.running) <= 5
        assert step > 0 or len(rung(redis)) == 5
        crew.hear(1 + step % 3)
        one.ring_once()
        assert len(set(rung(redis))) + len(crew.running) <= 5
        done += len(crew.running[: 1 + step % 2])
        crew.finish(1 + step % 2)
        with engine.begin() as tx:
            recount_lanes(tx)
    assert done == 40


def test_a_cap_holds_while_urgent_jobs_push_what_was_rung_out_of_sight(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    control(engine, "kind", KIND, max_in_flight=5)
    fill(engine, tenant_id, 100)
    one = start_relay()
    one.ring_once()
    fill(engine, tenant_id, 400, priority=2, age_s=0.0)
    for _ in range(4):
        one.ring_once()
        assert len(rung(redis)) == len(set(rung(redis))) == 5
    crew.hear(2)
    one.ring_once()
    assert len(set(rung(redis))) + len(crew.running) == 5


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
@pytest.mark.parametrize(("scope", "name"), [("queue", QUEUE), ("kind", KIND)])
def test_no_tenant_has_more_in_flight_than_a_tenant_may(
    engine: Engine, crew: Crew, start_relay: StartRelay, scope: Any, name: str, lane: str | None
) -> None:
    one_tenant, other = a_tenant(engine, "one"), a_tenant(engine, "other")
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    control(engine, scope, name, max_in_flight_per_tenant=3)
    fill(engine, one_tenant, 50, lane=lane)
    if scope == "queue":
        fill(engine, one_tenant, 50, kind="test.chore", lane=lane)
    fill(engine, other, 50, lane=lane)
    one = start_relay()
    for _ in range(10):
        for _ in range(3):
            one.ring_once()
        crew.hear()
        assert tenants_of(crew.running) == {one_tenant: 3, other: 3}
        one.ring_once()
        assert crew.hear() == []
        crew.finish()
        with engine.begin() as tx:
            recount_lanes(tx)


def test_a_cap_counts_jobs_with_and_without_a_lane_together(
    engine: Engine, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    control(engine, "kind", KIND, max_in_flight_per_tenant=5)
    fill(engine, tenant_id, 2)
    fill(engine, tenant_id, 9, lane="endpoint:1")
    one = start_relay()
    for _ in range(3):
        one.ring_once()
    assert len(crew.hear()) == 5
    assert [one.ring_once(), one.ring_once()] == [0, 0]


@pytest.mark.parametrize("why", ["kind is paused", "tenant is capped"])
def test_hundreds_of_lanes_of_who_may_not_start_do_not_stand_in_the_way_of_another_lane(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, why: str
) -> None:
    # Given a tenant whose backlog lies in more lanes than a pass serves, all of which have waited longest
    if why == "tenant is capped":
        control(engine, "queue", QUEUE, max_in_flight_per_tenant=1)
    else:
        with engine.begin() as tx:
            pause(tx, "kind", "test.chore", "olga@harbour")
    execute(
        engine,
        "INSERT INTO lanes (name, queue, last_served) "
        "SELECT 'endpoint:' || n, 'test', now() - interval '1 hour' FROM generate_series(1, 300) AS n",
    )
    fill(engine, tenant_id, 1_200, kind="test.chore", lane="endpoint:1")
    execute(
        engine,
        "UPDATE outbox SET lane = 'endpoint:' || n FROM (SELECT job_id, 1 + row_number() OVER () % 300 AS n "
        "FROM outbox) AS o WHERE outbox.job_id = o.job_id",
    )
    one = start_relay()
    one.ring_once()
    redis.delete(bell_list(QUEUE))
    # When another tenant's first job comes in a lane of its own, it rings in the next pass
    with engine.begin() as tx:
        open_lane(tx, "endpoint:other", QUEUE)
    (single,) = errands(engine, a_tenant(engine, "other"), 1, lane="endpoint:other")
    one.ring_once()
    assert rung(redis) == [single]


@pytest.mark.parametrize("lane", [None, "endpoint:1"])
def test_no_more_start_per_second_than_the_limit_and_one_burst(
    engine: Engine, tenant_id: UUID, crew: Crew, start_relay: StartRelay, lane: str | None
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    control(engine, "kind", KIND, starts_per_second=20.0)
    errands(engine, tenant_id, 200, lane=lane)
    one = start_relay()
    started = time.monotonic()
    while (passed_s := time.monotonic() - started) < 1.5:
        one.ring_once()
        crew.hear()
        assert len(crew.running) <= 20.0 * (time.monotonic() - started) + 5
        crew.finish(0)
    assert len(crew.running) >= 20.0 * passed_s / 2
    fill(engine, tenant_id, 1, kind="test.chore")
    assert one.ring_once() >= 1


# ---- suspects and hand-backs


def test_what_was_handed_back_or_crashed_travels_alone_and_fresh_ones_together(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    one = start_relay()
    fill(engine, tenant_id, 4_000)
    while max((len(ids) for _, ids in bundles(redis)), default=0) < 20:
        crew.hear()
        one.ring_once()
    # Given mates that waited too long behind a slow one, and a bundle whose worker died
    slow = crew.hear(1)
    for job in slow:
        assert ended(engine, job, Snoozed(0.0, "waited too long", handed_back=True))
    ((_, lost),) = _popped(redis, QUEUE, 1)
    claimed(engine, lost, lease_s=-1)
    with engine.begin() as tx:
        assert take_over_expired(tx)
    execute(engine, "UPDATE outbox SET due_at = now() - interval '2 hours' WHERE alone")
    execute(engine, "UPDATE jobs SET due_at = now() - interval '2 hours' WHERE state = 'retrying'")
    # When they are rung again
    suspects = {*(job.id for job in slow), *lost}
    alone: set[UUID] = set()
    one.close()
    for _ in range(100):
        one.ring_once()
        for _, ids in _popped(redis, QUEUE, 1_000):
            assert len(ids) == 1 or not suspects & set(ids)
            alone |= suspects & set(ids)
            claimed(engine, ids)
        if alone == suspects:
            break
    assert alone == suspects


# ---- one leads


def test_of_two_relays_one_rings_and_the_other_takes_over_when_it_stops(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    leader, second = start_relay(), start_relay()
    ids = errands(engine, tenant_id, 2)
    assert [leader.ring_once(), second.ring_once()] == [2, 0]
    leader.close()
    (third,) = errands(engine, tenant_id, 1)
    # What was rung and not claimed rings again: the new one remembers nothing. The server may take its time to let go
    eventually(lambda: second.ring_once() == 3)
    assert Counter(rung(redis)) == {ids[0]: 2, ids[1]: 2, third: 1}
    assert leader.ring_once() == 0


def test_a_bell_that_a_new_leader_doubled_starts_nothing_twice(
    engine: Engine, redis: Redis, tenant_id: UUID, crew: Crew, start_relay: StartRelay
) -> None:
    ids = errands(engine, tenant_id, 5)
    leader = start_relay()
    leader.ring_once()
    leader.close()
    start_relay().ring_once()
    assert depth(redis) == 10
    assert sorted(job.id for job in crew.hear()) == sorted(ids)


def test_when_the_session_of_the_leader_is_cut_another_leads_and_the_first_comes_back_to_stand_by(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    leader, second = start_relay(), start_relay()
    assert leader.turn() == 0
    cut_off(engine)
    errands(engine, tenant_id, 1)
    eventually(lambda: second.turn() == 1)
    for _ in range(3):
        assert leader.turn() == 0
    assert depth(redis) == 1


def test_a_leader_that_freezes_loses_its_lock(
    engine: Engine, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_END_WHEN_SILENT", END_WHEN_SILENT)
    frozen, second = start_relay(), start_relay()
    assert frozen.turn() == 0
    errands(engine, tenant_id, 1)
    assert second.ring_once() == 0
    # When the leader does nothing any more, while the other goes on
    eventually(lambda: second.turn() == 1)
    # Then it notices when it thaws, and stands by
    assert [frozen.turn(), frozen.turn()] == [0, 0]


def test_leadership_is_one_per_role_and_ends_with_the_session(database_url: str) -> None:
    engine = connect(database_url, process="test").execution_options(isolation_level="AUTOCOMMIT")
    first, second, other = (Leadership(engine, role) for role in ("relay", "relay", "crane"))
    try:
        assert [first.is_held(), second.is_held(), other.is_held(), first.is_held()] == [True, False, True, True]
        first.give_up()
        first.give_up()
        eventually(second.is_held)
        assert not first.is_held()
        with pytest.raises(RuntimeError, match="does not lead"):
            Leadership(engine, "relay").connection  # noqa: B018
    finally:
        for one in (first, second, other):
            one.give_up()
        engine.dispose()


# ---- outages


def test_after_a_flushall_what_was_rung_rings_again_when_its_time_is_over_and_not_before(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = errands(engine, tenant_id, 5)
    one = start_relay()
    one.ring_once()
    redis.flushall()
    assert [one.ring_once(), depth(redis)] == [0, 0]
    _let_time_pass(monkeypatch, 1.0)
    with capture_logs() as said:
        assert one.ring_once() == 5
    assert sorted(rung(redis)) == sorted(ids)
    assert [line["rows"] for line in said if line["event"] == "outbox.rung_again"] == [5]


def test_a_bell_that_went_down_with_its_worker_rings_again_soon_and_one_that_still_lies_there_does_not(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two bells
    lost, waiting = errands(engine, tenant_id, 2)
    one = start_relay()
    one.ring_once()
    # When a worker has taken one of them down with it, and all others are busy
    assert redis.lpop(bell_list(QUEUE))
    _let_time_pass(monkeypatch, 1.0)
    assert [one.ring_once(), rung(redis)] == [0, [waiting]]
    # And when the other has been claimed too
    assert redis.lpop(bell_list(QUEUE))
    assert claimed(engine, [waiting])
    # Then the lost one rings again
    assert [one.ring_once(), rung(redis)] == [1, [lost]]
    # But the more often it did, the later
    assert redis.lpop(bell_list(QUEUE))
    _let_time_pass(monkeypatch, 1.0)
    assert one.ring_once() == 0
    _let_time_pass(monkeypatch, 1.0)
    assert one.ring_once() == 1


def _let_time_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The relay's clock goes on by so much. Its pauses are not longer for it."""
    passed = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: passed() + seconds)


def test_rows_stay_due_while_redis_is_away_and_ring_when_it_is_back(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    ids = errands(engine, tenant_id, 3)
    one = start_relay()
    with connect_redis("redis://127.0.0.1:1/0", timeout_s=0.2) as nowhere:
        away = Relay(connect(str(engine.url.render_as_string(hide_password=False)), process="relay"), nowhere)
        with pytest.raises(RedisError):
            away.ring_once()
        assert away.turn() == 0
        away.close()
    eventually(lambda: one.ring_once() == 3)  # the server ends the session of the one that led when it gets to it
    assert sorted(rung(redis)) == sorted(ids)


def test_a_relay_that_does_not_know_which_bells_arrived_rings_them_again(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that takes the bells, and whose answer is lost
    ids = errands(engine, tenant_id, 2)
    one = start_relay()
    real = Redis.pipeline

    def lossy(client: Redis, **given: Any) -> Any:
        pipe = real(client, **given)
        execute_ = pipe.execute

        def lose() -> Any:
            answers = execute_()
            if redis.llen(bell_list(QUEUE)):
                raise RedisError("the answer was lost")
            return answers

        monkeypatch.setattr(pipe, "execute", lose)
        return pipe

    with monkeypatch.context() as losing:
        losing.setattr(Redis, "pipeline", lossy)
        assert one.turn() == 0
    assert sorted(rung(redis)) == sorted(ids)
    assert one.turn() == 2


def test_a_relay_that_dies_between_ringing_in_lanes_and_its_commit_rings_twice_never_not_at_all(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as tx:
        open_lane(tx, "endpoint:1", QUEUE)
    (job_id,) = errands(engine, tenant_id, 1, lane="endpoint:1")
    dying = start_relay()
    real = dying._lanes._push

    def push_then_die(found: Any) -> None:
        real(found)
        raise SystemExit

    monkeypatch.setattr(dying._lanes, "_push", push_then_die)
    with pytest.raises(SystemExit):
        dying.ring_once()
    assert rows(engine, "SELECT rings, due_at <= now() FROM outbox") == [(0, True)]
    dying.close()
    assert start_relay().ring_once() == 1
    assert rung(redis) == [job_id] * 2


def test_a_relay_outlives_the_loss_of_its_database_connection(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    one = start_relay()
    assert one.turn() == 0
    cut_off(engine)
    errands(engine, tenant_id, 1)
    eventually(lambda: one.turn() == 1)
    assert depth(redis) == 1


def test_a_relay_with_nothing_to_do_wakes_by_its_bell(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a relay that would sleep for long
    monkeypatch.setattr(relay, "POLL_S", 1.5)
    one = start_relay()
    ring_relay(redis)
    # When it is rung, its turn ends, and the next one finds the row
    assert one.turn() == 0
    assert redis.llen(RELAY_BELL) == 0
    errands(engine, tenant_id, 1)
    assert one.turn() == 1


def test_a_hint_is_rung_without_a_look_when_its_flow_was_empty(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay
) -> None:
    one = start_relay()
    enqueued(engine, tenant_id, Errand())
    assert [one.ring_once(), one.ring_once()] == [1, 0]
    claimed(engine, rung(redis))
    redis.delete(bell_list(QUEUE))
    one.ring_once()  # the flow is known, and empty
    (job_id,) = enqueued(engine, tenant_id, Errand())
    one._hint = Hint(QUEUE, KIND, tenant_id, [job_id])
    assert one.ring_once() == 1
    assert one._may_wait
    assert rung(redis) == [job_id]
    # And the pass that follows knows that it has been rung
    assert one.ring_once() == 0


@pytest.mark.parametrize("why", ["unknown flow", "paused kind", "backlog"])
def test_a_hint_does_not_overtake_what_stands_before_it(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, why: str
) -> None:
    one = start_relay()
    if why != "unknown flow":
        enqueued(engine, tenant_id, *[Errand()] * (3 if why == "backlog" else 1))
        one.ring_once()
        if why == "paused kind":
            claimed(engine, rung(redis))
            one.ring_once()
            with engine.begin() as tx:
                pause(tx, "kind", KIND, "test")
            one.ring_once()  # controls are read by a pass, and a pass follows every hint
    redis.delete(bell_list(QUEUE))
    one._hint = Hint(QUEUE, KIND, tenant_id, [new_id()])
    one.ring_once()
    assert bells_waiting(redis, [QUEUE])[QUEUE] == 0


def test_hints_without_end_do_not_keep_a_resume_from_being_obeyed(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a kind that is paused, and whose jobs come faster than the relay hears of them
    one = start_relay()
    monkeypatch.setattr(relay, "_CONTROLS_AT_LATEST_S", 0.05)
    with engine.begin() as tx:
        pause(tx, "kind", KIND, "test")
    one.ring_once()

    def hear_of_one_more() -> int:
        (job_id,) = enqueued(engine, tenant_id, Errand())
        one._hint = Hint(QUEUE, KIND, tenant_id, [job_id])
        return one.ring_once()

    assert hear_of_one_more() == 0
    # When it is resumed
    with engine.begin() as tx:
        resume(tx, "kind", KIND, "test")
    # Then they ring
    eventually(lambda: hear_of_one_more() > 0)


def hint_bell(**changes: Any) -> bytes:
    """A bell whose hint has one job, but for what is changed."""
    fields = {"queue": QUEUE, "kind": KIND, "tenant_id": str(new_id()), "job_ids": [str(new_id())], **changes}
    return json.dumps(list(fields.values())).encode()


@pytest.mark.parametrize(
    "bell_",
    [
        *[relay_bell(None), b"", b"1", b"\xff", b'["a"]', b"{}", b"[" * 100_000],
        hint_bell(job_ids=[]),
        hint_bell(job_ids=[str(new_id()) for _ in range(MOST_IN_HINT + 1)]),
        hint_bell(job_ids=str(new_id())),
        hint_bell(job_ids=["1; DROP TABLE jobs"]),
        hint_bell(job_ids=None),
        hint_bell(tenant_id=7),
        hint_bell(queue=None),
        hint_bell(kind="k" * 100_000),
        hint_bell(more=1),
        hint_bell()[:-1] + b"," + b"[" * 1_500 + b"]" * 1_501,
    ],
    ids=range(17),
)
def test_a_hint_that_nobody_of_ours_would_give_is_a_bell_like_any_other(
    engine: Engine, redis: Redis, start_relay: StartRelay, bell_: bytes
) -> None:
    assert hint_in(bell_) is None
    one = start_relay()
    redis.rpush(RELAY_BELL, bell_)
    assert one.turn() == one.turn() == 0
    assert not redis.exists(RELAY_BELL)


def test_a_hint_may_name_so_many_jobs_and_one_more_is_none() -> None:
    tenant_id, ids = new_id(), [new_id() for _ in range(MOST_IN_HINT)]
    given = hint_for(QUEUE, KIND, [(tenant_id, job_id) for job_id in ids])
    assert given == Hint(QUEUE, KIND, tenant_id, ids) == hint_in(relay_bell(given))
    assert hint_for(QUEUE, KIND, [(tenant_id, job_id) for job_id in [*ids, new_id()]]) is None
    # And the longest that we give is not too long to be read
    longest = Hint("q" * 200, "k" * 200, tenant_id, ids)
    assert hint_in(relay_bell(longest)) == longest


def test_after_a_thousand_jobs_redis_holds_what_it_held_before(
    engine: Engine, redis: Redis, tenant_id: UUID, start_relay: StartRelay, crew: Crew
) -> None:
    one, before = start_relay(), set(redis.keys())
    enqueued(engine, tenant_id, *[Errand()] * 1_000)
    while crew.hear() or one.ring_once():
        crew.finish()
    assert scalar(engine, "SELECT count(*) FROM jobs WHERE state = 'succeeded'") == 1_000
    assert set(redis.keys()) == before
