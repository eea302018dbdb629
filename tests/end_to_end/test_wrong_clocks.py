"""Processes whose wall clocks are hours apart agree on what is due and who is alive: the database's clock alone counts.

Where workers compare their own clocks, as those of Dramatiq's own Redis broker do, one that is ahead takes the living
for dead and runs their jobs a second time.
"""

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis import Redis

from domain.database import database_clock
from domain.tenants.keys import create_key
from domain.tenants.tenants import ensure_tenant
from tests.end_to_end.api_process import api_process
from tests.end_to_end.own_kinds import QUEUE
from tests.end_to_end.own_worker import (
    Effect,
    Nap,
    OwnProcess,
    Stumble,
    all_end,
    each_ran_once,
    enqueued,
    job,
    own_process,
    own_worker,
    state,
)
from tests.end_to_end.running import Running, stopped, wait_until
from tests.end_to_end.wrong_clock import python
from workers.broker import bell, bell_list

HOUR_S = 3_600
#: Longer than a lease, so that it must be renewed.
LONG_S = 8.5


def hours_off(process: OwnProcess, system: Running) -> int:
    """By what it writes into its log."""
    said = process.said("process_started")[0]["timestamp"]
    off = system.query("SELECT extract(epoch FROM CAST(:said AS timestamptz) - clock_timestamp())", said=said)
    return round(float(off[0][0]) / HOUR_S)


@pytest.mark.timeout(120)
def test_workers_and_keepers_hours_apart_take_nothing_over_and_start_nothing_early_or_twice(
    system: Running, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with (
        own_worker(system, tmp_path, clock_off_s=HOUR_S, WORKER_THREADS="2") as ahead,
        own_worker(system, tmp_path, clock_off_s=-HOUR_S, WORKER_THREADS="2") as behind,
        own_process(system, tmp_path, python("ops.cli", "rescuer", clock_off_s=HOUR_S)) as rescuer,
        own_process(system, tmp_path, python("ops.cli", "relay", clock_off_s=HOUR_S)) as relay,
    ):
        # Given long jobs in both workers: three of them are too many for one
        long = enqueued(system, *(Nap(LONG_S, 0.0, str(effects)) for _ in range(3)))
        wait_until(lambda: {state(system, one) for one in long} == {"running"})
        assert len({job(system, one).worker_id for one in long}) == 2
        with stopped(system.pids()["relay"]):  # so that the other one leads
            # When jobs for now, soon and later come, with bells that are far too early
            now = enqueued(system, *(Effect(str(effects)) for _ in range(8)))
            soon = enqueued(system, Effect(str(effects)), due_in_s=4.0)
            later = enqueued(system, *(Effect(str(effects)) for _ in range(4)), due_in_s=HOUR_S / 2)
            with Redis.from_url(system.env["REDIS_URL"]) as redis:
                for _ in range(10):
                    redis.rpush(bell_list(QUEUE), bell(QUEUE, "own.effect", [one.hex for one in soon + later]))
            # Then each runs once, in its time, and the long ones end where they began
            all_end(system, [*long, *now, *soon], "succeeded")
        assert hours_off(ahead, system) == hours_off(rescuer, system) == hours_off(relay, system) == 1
        assert hours_off(behind, system) == -1
        assert relay.said("outbox.rung")
        assert rescuer.said("job.rescued") == []
    each_ran_once(system, effects, [*long, *now, *soon])
    assert {state(system, one) for one in later} == {"scheduled"}
    assert {system.call("POST", f"/api/v1/jobs/{one}/cancel")[0] for one in later} == {202}
    assert not any(job(system, one).started_at < job(system, one).due_at for one in [*now, *soon])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("clock_off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_an_order_taken_in_by_a_wrong_clock_is_due_at_once(system: Running, tmp_path: Path, clock_off_s: int) -> None:
    sku, key = system.product(5), uuid4().hex
    with api_process(system, tmp_path, clock_off_s) as api:
        ((before,),) = system.query("SELECT clock_timestamp()")
        status, _, body = api.order(sku, key)
        assert status == 202
        assert api.order(sku, key)[2]["data"]["order"]["id"] == body["data"]["order"]["id"]
    order_id = UUID(body["data"]["order"]["id"])
    assert (order_id.int >> 80) / 1000 == pytest.approx(before.timestamp() + clock_off_s, abs=60)  # by its wrong clock
    wait_until(lambda: bool(system.query("SELECT 1 FROM orders WHERE id = :id AND status = 'confirmed'", id=order_id)))
    ((created_at, due_at, claim),) = system.query(
        "SELECT o.created_at, j.due_at, j.claim FROM orders AS o JOIN jobs AS j ON j.id = o.root_job_id"
        " WHERE o.id = :id AND o.created_at <= clock_timestamp() AND j.started_at >= j.due_at",
        id=order_id,
    )
    assert before <= created_at <= due_at
    assert claim == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("clock_off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_a_key_expires_by_the_databases_clock(system: Running, tmp_path: Path, clock_off_s: int) -> None:
    with system.engine.begin() as tx:
        tenant_id, now = ensure_tenant(tx, "default"), database_clock(tx)
        old = create_key(tx, tenant_id, "old", ["api"], now - timedelta(minutes=10))
        young = create_key(tx, tenant_id, "young", ["api"], now + timedelta(minutes=10))
    sku = system.product(5)
    with api_process(system, tmp_path, clock_off_s) as api:
        statuses = {}
        for name, key in (("old", old), ("young", young)):
            api.headers["X-API-Key"] = key
            statuses[name] = api.order(sku, uuid4().hex)[0]
    assert statuses == {"old": 401, "young": 202}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("clock_off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_a_retry_and_what_is_handed_back_are_due_by_the_databases_clock(
    system: Running, tmp_path: Path, clock_off_s: int
) -> None:
    with own_worker(system, tmp_path, clock_off_s=clock_off_s) as worker:
        (stumbling,) = enqueued(system, Stumble())
        (napping,) = enqueued(system, Nap(60.0, 0.0, str(tmp_path / "effects")))
        wait_until(lambda: state(system, napping) == "running" and job(system, stumbling).attempt >= 1)
        wait_until(lambda: state(system, stumbling) != "running")
        worker.told_to_stop()
    for job_id in (stumbling, napping):
        ((wait,),) = system.query(
            "SELECT abs(extract(epoch FROM due_at - clock_timestamp())) FROM jobs WHERE id = :id", id=job_id
        )
        assert wait < HOUR_S / 10
    assert {system.call("POST", f"/api/v1/jobs/{one}/cancel")[0] for one in (stumbling, napping)} <= {202, 409}
