"""The judge of a chaos run: silent when all is well, and it names what is broken."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from uuid import UUID, uuid4

import msgspec
import pytest

import ops.chaos.judges
from ops.chaos.buckets import Buckets, buckets_of
from ops.chaos.catalogue import every_fault
from ops.chaos.faults import Touches
from ops.chaos.judges import JUDGES
from tests.unit.chaos_world import EVENT, NOW, World, ago, attempt, delivery, entry, letter, mail


def literals(module: Path) -> Iterator[list[str]]:
    """The texts in each set, list or tuple of a source."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Set | ast.List | ast.Tuple):
            yield [one.value for one in node.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def test_what_excuses_a_breach_is_a_fault_that_there_is() -> None:
    known = {*every_fault(), *get_args(Touches)}
    together = [texts for path in Path(ops.chaos.judges.__path__[0]).glob("*.py") for texts in literals(path)]
    excuses = [texts for texts in together if any(text in known or "-" in text for text in texts)]
    assert len(excuses) > 5
    assert [text for texts in excuses for text in texts if text not in known] == []


def test_where_all_is_well_nothing_is_found() -> None:
    assert World().findings() == set()


ATTEMPTS = "attempts follow one another"
REPORTS = "reports are whole and right"
DONE = "what an operator did is done"
ONCE = "what happened is told once"
TRUTH = "mails tell the truth"
FEW, PATIENCE = "webhooks are few", "webhooks go where they may, when they may"
CALLED_OFF = "nothing is called off by itself"
TOO_SOON, REASON = "nothing is given up before its time", "what is dead has a reason"
BROKEN: list[tuple[str, Callable[[World], object]]] = [
    (ATTEMPTS, lambda w: w.attempts.clear()),
    (ATTEMPTS, lambda w: w.attempts.append(attempt(uuid4()))),
    (ATTEMPTS, lambda w: setattr(w.root, "claim", 2)),
    (ATTEMPTS, lambda w: setattr(w.attempts[0], "outcome", "retrying")),
    (ATTEMPTS, lambda w: setattr(w.attempts[0], "started_at", ago(26.0))),
    (ATTEMPTS, lambda w: setattr(w.attempts[0], "finished_at", ago(25.0))),
    (ATTEMPTS, lambda w: w.tried_twice("succeeded", 18.0)),
    (ATTEMPTS, lambda w: w.tried_twice("retrying", 24.0)),
    (ATTEMPTS, lambda w: w.tried_twice("handed_back", 18.0)),
    ("times are in order", lambda w: setattr(w.root, "finished_at", ago(25.0))),
    ("what has succeeded has succeeded for good", lambda w: setattr(w.root, "state", "dead")),
    (REPORTS, lambda w: w.report_states.clear()),
    (REPORTS, lambda w: setattr(w.report, "order_ids", None)),
    (REPORTS, lambda w: setattr(w.report, "order_ids", [])),
    (REPORTS, lambda w: setattr(w.report, "size", 91)),
    (REPORTS, lambda w: setattr(w.report, "until", ago(25.0))),
    (REPORTS, lambda w: w.report.order_ids.append(w.posted.order_id)),  # type: ignore[union-attr]
    (DONE, lambda w: setattr(w.letter, "resolution", None)),
    (DONE, lambda w: setattr(w.letter, "id", uuid4())),
    *[(REPORTS, lambda w, at=at: w.report.cells[0].__setitem__(at, "wrong")) for at in (1, 3, 4, 5)],
    ("an order costs what was ordered", lambda w: setattr(w, "total", 0.0)),
    ("logs tell no secret", lambda w: w.said.leaks.append("web-0 http_request")),
    ("no 202 comes too late", lambda w: setattr(w.said, "slowest_accepted_s", 0.0)),
    ("no 202 comes too late", lambda w: w.said.late.append("after 5 s")),
    ("stock is never below nothing", lambda w: w.ledger.reverse()),
    ("stock by hand is counted once", lambda w: w.adjusted(5, "ok")),
    ("stock by hand is counted once", lambda w: w.ledger.append(entry(UUID(w.tenant.id), None, "adjusted", 7))),
    ("who left hears nothing new", lambda w: setattr(w.endpoint, "gone", ago(21.0).timestamp())),
    ("accepted is durable, and decided", lambda w: w.orders.clear()),
    ("accepted is durable, and decided", lambda w: setattr(w.order, "status", "accepted")),
    ("accepted is durable, and decided", lambda w: setattr(w.order, "customer_email", "another@example.com")),
    ("accepted is durable, and decided", lambda w: setattr(w.order, "lines", {"PLENTY-0": 1})),
    ("accepted is durable, and decided", lambda w: setattr(w.order, "lines", None)),
    ("accepted is durable, and decided", lambda w: setattr(w, "seen_status", "rejected")),
    ("nothing comes from nowhere", lambda w: setattr(w.order, "idempotency_key", "of nobody")),
    ("nothing comes from nowhere", lambda w: w.history.enqueued.clear()),
    (DONE, lambda w: setattr(w.letter, "replay_job_id", None)),
    (DONE, lambda w: setattr(w.doomed, "attempt", 1)),
    (DONE, lambda w: w.edited({"seconds": 0.01, "fails": True})),
    (DONE, lambda w: setattr(w.letter, "resolution", "edited")),
    (DONE, lambda w: setattr(w.order, "status", "failed")),
    ("every outcome can be learned", lambda w: setattr(w.posted, "outcome", "unknown")),
    ("one key, one order, one answer", lambda w: w.orders.append(w.order)),
    ("one key, one order, one answer", lambda w: w.posted.answers.add(b"another")),
    ("what is right is not refused", lambda w: setattr(w.posted, "outcome", "refused")),
    ("no caller is answered 500", lambda w: w.history.saw("GET orders 500")),
    ("callers see what they were told", lambda w: w.history.is_strange("not found")),
    ("invariants", lambda w: w.broken.update(stock_is_in_bounds=["row"])),
    ("every job ends, or is dead for all to see", lambda w: setattr(w.root, "state", "running")),
    ("every job ends, or is dead for all to see", lambda w: setattr(w.root, "state", "dead")),
    ("every job ends, or is dead for all to see", lambda w: setattr(w.root, "attempt", 2)),
    ("every job ends, or is dead for all to see", lambda w: setattr(w.root, "kind", "chaos.rogue")),
    ("stock is conserved", lambda w: setattr(w.stock, "reserved", 3)),
    ("stock is conserved", lambda w: w.ledger.append(w.ledger[-1])),
    ("an order takes all it asked for, or nothing", lambda w: setattr(w.ledger[-1], "reserved_delta", 1)),
    ("an order takes all it asked for, or nothing", lambda w: setattr(w.order, "status", "rejected")),
    ("what is there is sold", lambda w: setattr(w.order, "status", "rejected")),
    ("what crashes is dead by its third crash", lambda w: w.crashed(4)),
    ("work is done once", lambda w: w.deeds.clear()),
    ("work is done once", lambda w: w.deeds.append(w.deeds[0])),
    ("work is done once", lambda w: setattr(w.deed, "state", "dead")),
    ("work is done once", lambda w: setattr(w.deed, "claim", 2)),
    ("work is done once", lambda w: w.deeds.append(SimpleNamespace(job_id=uuid4(), claim=1))),
    ("an order gives back what it took", lambda w: setattr(w.order, "status", "cancelled")),
    ("an order gives back what it took", lambda w: setattr(w.order, "status", "completed")),
    ("an order gives back what it took", lambda w: w.ledger.append(w.released)),
    ("who asked for an end has it", lambda w: w.ended("cancel", w.root)),
    ("what is paused rests", lambda w: w.paused(22.0, 18.5)),
    ("each tick fires once", lambda w: w.history.breaks("each tick fires once", "some are due")),
    ("each tick fires once", lambda w: w.history.schedules.update(gone=NOW)),
    ("each tick fires once", lambda w: w.ticks.append(w.ticked(0))),
    ("each tick fires once", lambda w: w.ticks.append(w.ticked(0, 0, 1))),
    ("each tick fires once", lambda w: w.ticks.append(w.ticked(0, 1, 2))),
    ("a dead letter is resolved once", lambda w: w.history.resolve(str(w.letter.id), "replayed")),
    ("nobody hears what he did not ask for", lambda w: setattr(w.endpoint, "types", ["report.completed"])),
    ("whoever lives keeps its lease", lambda w: w.lost_its_lease()),
    ("orders are taken without Valkey", lambda w: w.history.breaks("orders are taken without Valkey", "503")),
    ("who is told to leave leaves", lambda w: w.history.breaks("who is told to leave leaves", "worker-0")),
    ("nothing ends that nobody ended", lambda w: setattr(w.order, "status", "cancelled")),
    ("webhooks are acknowledged", lambda w: w.answered(500)),
    ("webhooks are acknowledged", lambda w: w.answered(None)),
    ("webhooks arrive", lambda w: w.deliveries.clear()),
    ("webhooks arrive", lambda w: setattr(w.delivery_job, "event_id", uuid4())),
    ("webhooks are genuine", lambda w: w.deliveries.append(delivery(EVENT, webhook_id="msg_other"))),
    ("webhooks are genuine", lambda w: w.deliveries.append(delivery(EVENT, more="bytes"))),
    ("webhooks are genuine", lambda w: w.deliveries.append(delivery(uuid4()))),
    ("webhooks are genuine", lambda w: setattr(w.event, "tenant_id", uuid4())),
    ("webhooks are genuine", lambda w: w.deliveries.append(delivery(EVENT, secret="whsec_" + "QUFB" * 11))),
    ("webhooks are genuine", lambda w: w.deliveries.append(delivery(EVENT, late_s=301.0))),
    ("webhooks go where they may, when they may", lambda w: w.canaries.append("GET /")),
    ("webhooks go where they may, when they may", lambda w: w.too_soon.append(SimpleNamespace(job_id="1", claim=1))),
    (TOO_SOON, lambda w: w.dies(w.root, "attempts", 9)),
    (TOO_SOON, lambda w: w.dies(w.mail_job, "attempts", 2)),
    (TOO_SOON, lambda w: w.dies(w.root, "crashes", 3)),
    (TOO_SOON, lambda w: w.dies(w.root, "deadline", 3)),
    (REASON, lambda w: w.dies(w.mail_job, "attempts", 3)),
    (REASON, lambda w: w.dies(w.delivery_job, "attempts", 12)),
    (REASON, lambda w: w.dies(w.root, "permanent")),
    (REASON, lambda w: w.dies(w.mail_job, "permanent")),
    (REASON, lambda w: w.dies(w.delivery_job, "permanent")),
    (REASON, lambda w: setattr(w.letter, "job_id", uuid4())),
    ("mails are few", lambda w: w.mails.extend(w.mails)),
    (TRUTH, lambda w: setattr(w.posted, "order_id", str(uuid4()))),
    (TRUTH, lambda w: setattr(w.order, "status", "rejected")),
    (TRUTH, lambda w: w.mails.append(mail(w.posted, "cannot be served", "2 x Thing (PLENTY-0)"))),
    (TRUTH, lambda w: w.mails.append(mail(w.posted, "is confirmed", "1 x Thing (PLENTY-0)\nTotal: 19.00 USD"))),
    (TRUTH, lambda w: w.mails.append(mail(w.posted, "is confirmed", "2 x Thing (PLENTY-0)\nTotal: 0.00 USD"))),
    (FEW, lambda w: w.deliveries.append(w.deliveries[0])),
    (FEW, lambda w: w.paths.clear()),
    (PATIENCE, lambda w: w.asked_for_patience(2.4)),
    (CALLED_OFF, lambda w: setattr(w.delivery_job, "code", "ENDPOINT_DELETED")),
    (CALLED_OFF, lambda w: setattr(w.delivery_job, "state", "cancelled")),
    (CALLED_OFF, lambda w: setattr(w.mail_job, "state", "cancelled")),
    ("webhooks are acknowledged", lambda w: w.paths.update({w.endpoint.id: "/another"})),
    ("mails arrive", lambda w: w.mails.clear()),
    ("mails arrive", lambda w: setattr(w.mail_job, "order_id", uuid4())),
    ("mails arrive", lambda w: w.refuse_for_good()),
    (ONCE, lambda w: w.events.pop()),
    (ONCE, lambda w: w.events.pop(0)),
    (ONCE, lambda w: w.events.extend(w.events[:1])),
    (ONCE, lambda w: w.events.extend(w.events[1:])),
    (ONCE, lambda w: setattr(w.event, "type", "order.rejected")),
    (ONCE, lambda w: setattr(w.order, "status", "cancelled")),
    (ONCE, lambda w: w.report_states.update({"report-0": "dead"})),
    (ONCE, lambda w: w.letters.append(letter(w.root, "crashes", 3))),
    ("mails are few", lambda w: w.mailed(4)),
    ("mails are few", lambda w: w.mails.append(msgspec.structs.replace(w.mails[0], message_id="<2@x>"))),
    ("mails are few", lambda w: w.mails.append(msgspec.structs.replace(w.mails[0], recipient="who@x"))),
]


def test_a_mail_that_was_refused_for_good_is_dead_for_all_to_see() -> None:
    world = World()
    world.refuse_for_good("dead")
    assert world.findings() == set()


@pytest.mark.parametrize(("promise", "harm"), BROKEN)
def test_a_broken_promise_is_found_by_its_name(promise: str, harm: Callable[[World], object]) -> None:
    world = World()
    harm(world)
    assert promise in world.findings()


def test_every_judge_has_a_case_in_which_it_finds_something() -> None:
    assert {promise for promise, _ in JUDGES} == {promise for promise, _ in BROKEN}


def test_what_is_no_fault_is_not_found() -> None:
    world = World()
    world.adjusted(5, "unknown")
    world.adjusted(-3, "fail")
    world.tried_twice("retrying", 18.0)
    world.root.attempt = 2
    world.mailed(3)
    assert world.findings() == set()


def test_an_end_that_was_promised_may_be_dead_for_all_to_see_or_have_found_another() -> None:
    world, promise = World(), "who asked for an end has it"
    world.ended("complete", world.deed)
    world.deed.state = "dead"
    assert promise not in world.findings()
    world.deed.state, world.order.status = "succeeded", "rejected"
    assert promise not in world.findings()


def test_what_was_made_before_a_pause_or_began_after_it_or_felt_a_fault_may_begin() -> None:
    world, promise = World(), "what is paused rests"
    world.root.created_at, world.attempts[0].started_at = ago(15.0), ago(10.0)
    for since_s, until_s in ((16.4, 9.0), (20.0, 10.1)):
        world.paused(since_s, until_s)
        assert promise not in world.findings()
    world.paused(16.6, 9.0)
    assert promise in world.findings()
    with world.history.stage.standing("relay-stop", "relay") as turn:
        pass
    turn.since, turn.until = ago(17.0).timestamp(), ago(16.8).timestamp()
    assert promise not in world.findings()


def test_a_schedule_whose_ticks_were_all_fired_is_well() -> None:
    world = World()
    world.ticks.append(world.ticked(1, 0))
    assert world.findings() == set()


def test_three_crashes_are_allowed_and_a_replay_allows_for_three_more() -> None:
    world, promise = World(), "what crashes is dead by its third crash"
    world.crashed(3)
    assert promise not in world.findings()
    world.crashed(1)
    world.letters = [letter(world.root, "crashes", number, "replayed") for number in (3, 6)]
    assert promise not in world.findings()


def test_a_human_who_replays_a_mail_allows_for_more_copies() -> None:
    world = World()
    world.mailed(5)
    world.letters = [letter(world.mail_job, "permanent", 1, "replayed")]
    world.refused.add(world.posted.email)
    assert world.findings() == set()


def test_everything_that_went_in_lies_in_its_bucket() -> None:
    world = World()
    assert set(buckets_of(world.history, world.seen()).values()) == {Buckets(ok=1)}
    world.posted.was_unknown = True
    world.deliveries *= 2
    world.mails.clear()
    buckets = buckets_of(world.history, world.seen())
    assert buckets == {
        "orders": Buckets(recovered=1),
        "webhooks": Buckets(ok=1, duplicated=1),
        "mails": Buckets(lost=1),
    }
    world.orders.clear()
    world.delivery_job.state = "dead"
    world.deliveries.clear()
    buckets = buckets_of(world.history, world.seen())
    assert buckets["orders"] == Buckets(lost=1)
    assert buckets["webhooks"] == Buckets(refused=1)
