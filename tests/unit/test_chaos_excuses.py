"""What the checker of a chaos run takes for an excuse, and what it does not."""

from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest

from tests.unit.chaos_world import EVENT, NOW, World, ago, delivery, event, job, letter

FEW, PATIENCE = "webhooks are few", "webhooks go where they may, when they may"
CALLED_OFF = "nothing is called off by itself"
ONCE = "what happened is told once"
TOO_SOON, REASON = "nothing is given up before its time", "what is dead has a reason"


def test_who_has_had_every_attempt_may_die_of_attempts() -> None:
    world = World()
    world.dies(world.root, "attempts", 10)
    world.stood("deadlocks", "postgresql")
    assert not world.findings() & {TOO_SOON, REASON}


def test_an_outage_is_no_reason_for_a_reservation_to_be_dead() -> None:
    world = World()
    world.dies(world.root, "attempts", 10)
    world.stood("postgresql-kill9", "postgresql")
    assert REASON in world.findings()


def test_a_replay_is_a_life_of_its_own() -> None:
    world = World()
    world.dies(world.root, "attempts", 13)
    world.letters.append(letter(world.root, "attempts", 10, "replayed"))
    assert TOO_SOON in world.findings()
    world.letters.clear()
    world.dies(world.root, "attempts", 20)
    world.letters.append(letter(world.root, "attempts", 10, "replayed"))
    assert TOO_SOON not in world.findings()


def test_three_crashes_are_a_death() -> None:
    world = World()
    world.dies(world.root, "crashes", 3)
    for one in world.attempts[-3:]:
        one.outcome = "crashed"
    assert not world.findings() & {TOO_SOON, REASON}


def test_a_mail_may_fail_often_where_its_server_or_its_worker_was_harmed_at_that_time() -> None:
    for fault, touches in (("mail-fails", "outside"), ("memory", "worker")):
        world = World()
        world.dies(world.mail_job, "attempts", 3)
        world.stood(fault, touches, since_s=300.0, until_s=200.0)
        world.stood("webhook-errors", "outside")
        assert REASON in world.findings()
        world.stood(fault, touches)
        assert REASON not in world.findings()


def test_a_webhook_may_fail_often_where_its_subscriber_answered_badly() -> None:
    for status in (500, None):
        world = World()
        world.dies(world.delivery_job, "attempts", 12)
        world.answered(status)
        assert REASON not in world.findings()


def test_a_webhook_may_fail_for_good_where_its_subscriber_is_gone() -> None:
    world = World()
    world.dies(world.delivery_job, "permanent")
    world.paths[world.delivery_job.endpoint_id] = "/aside"
    world.aside.append(msgspec.structs.replace(delivery(EVENT), path="/aside", status=410))
    assert REASON not in world.findings()


def test_whoever_had_no_memory_may_fail_for_good() -> None:
    world = World()
    world.dies(world.mail_job, "permanent")
    world.stood("mail-fails", "outside")
    assert REASON in world.findings()
    world.stood("memory", "worker")
    assert REASON not in world.findings()


def test_what_is_made_to_fail_may() -> None:
    world = World()
    world.dies(world.deed, "permanent")
    assert REASON not in world.findings()
    world.deed.fails = False
    assert REASON in world.findings()


def test_an_answer_that_was_lost_allows_for_one_more_request_and_not_for_two() -> None:
    world = World()
    world.deliveries.append(msgspec.structs.replace(world.deliveries[0], status=None))
    assert FEW not in world.findings()
    world.deliveries.append(world.deliveries[1])
    assert FEW in world.findings()


def test_an_answer_is_lost_where_its_link_was_cut() -> None:
    world = World()
    world.deliveries = [msgspec.structs.replace(one, received_at=NOW.timestamp() - 9.0) for one in world.deliveries * 2]
    assert FEW in world.findings()
    world.stood("links-cut", "links")
    assert FEW not in world.findings()


def test_who_comes_in_time_or_is_sent_by_a_human_is_patient() -> None:
    world = World()
    world.asked_for_patience(2.6)
    assert PATIENCE not in world.findings()
    world = World()
    world.asked_for_patience(0.1)
    world.letters.append(letter(world.delivery_job, "attempts", 12, "replayed"))
    assert PATIENCE not in world.findings()


def test_who_asked_a_worker_that_died_is_not_heard() -> None:
    world = World()
    world.asked_for_patience(0.1)
    world.stood("worker-stop", "worker", until_s=300.0)
    assert PATIENCE in world.findings()
    world.stood("worker-stop", "worker", until_s=1.0)
    assert PATIENCE not in world.findings()


def test_who_deletes_an_endpoint_calls_its_deliveries_off_from_then_on() -> None:
    world = World()
    world.delivery_job.state = "cancelled"
    world.endpoint.ending = (world.delivery_job.finished_at - timedelta(seconds=1)).timestamp()
    assert CALLED_OFF not in world.findings()
    world.endpoint.ending = (world.delivery_job.finished_at + timedelta(seconds=9)).timestamp()
    assert CALLED_OFF in world.findings()


def test_who_worked_beside_poison_may_lose_its_lease_and_nobody_else() -> None:
    promise = "whoever lives keeps its lease"
    for began_s, is_found in ((18.5, False), (40.0, False), (50.0, True), (17.0, True)):
        world = World()
        world.lost_its_lease()
        poison = job(world.order.tenant_id, "chaos.poison", world.order.id)
        world.dies(poison, "crashes")
        world.jobs.append(poison)
        world.attempts[-1].started_at = ago(began_s)
        assert (promise in world.findings()) == is_found


def test_a_job_that_stands_in_for_an_edited_one_was_asked_for() -> None:
    world = World()
    world.edited({"seconds": 0.01, "fails": False})
    assert world.findings() == set()


def test_what_may_run_out_may_be_refused() -> None:
    world = World()
    world.order.status, world.tenant.scarce[:] = "rejected", ["PLENTY-0"]
    assert "what is there is sold" not in world.findings()


@pytest.mark.parametrize(
    "steps",
    [
        ["failed"],
        ["failed", "created"],
        ["failed", "cancelled"],
        ["failed", "created", "cancelled"],
        ["failed", "created", "confirmed"],
        ["created", "failed", "confirmed", "cancelled"],
    ],
    ids=" ".join,
)
def test_an_order_that_failed_first_is_told_of_step_by_step(steps: list[str]) -> None:
    world = World()
    world.letters = [letter(world.root, "crashes", 3, "replayed")]
    world.order.status, world.event.subject = steps[-1] if steps[-1] != "created" else "failed", uuid4()
    told = [event(world.order.tenant_id, world.order.id, f"order.{step}") for step in steps]
    world.events = [world.events[1], *told]
    assert ONCE not in world.findings()
    world.events.append(told[0])
    assert ONCE in world.findings()
    world.events = [world.events[1], *[one for one in told if one.type != "order.failed"]]
    assert ONCE in world.findings()


def test_an_order_that_is_decided_was_created_whatever_came_first() -> None:
    world = World()
    world.letters = [letter(world.root, "crashes", 3, "replayed")]
    world.events = [world.events[1], event(world.order.tenant_id, world.order.id, "order.failed")]
    assert ONCE in world.findings()


def test_times_tell_an_order_unless_the_clock_of_the_database_jumped() -> None:
    promise = "times are in order"
    world = World()
    world.root.finished_at = ago(22.0)
    assert promise in world.findings()
    world.stood("clock-back", "clocks")
    assert promise in world.findings()
    world.stood("database-clock", "clocks")
    assert promise not in world.findings()


def test_ids_tell_an_order_unless_the_clock_of_a_process_was_put_back() -> None:
    promise = "stock is never below nothing"
    world = World()
    world.ledger.reverse()
    moment = (world.ledger[0].id.int >> 80) / 1_000
    since_s = NOW.timestamp() - moment
    world.stood("clock-back", "clocks", since_s - 11.0, since_s - 20.0)
    assert promise in world.findings()
    world.stood("clock-back", "clocks", since_s - 9.0, since_s - 20.0)
    assert promise not in world.findings()
