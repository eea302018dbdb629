"""The judge of a chaos run: silent when all is well, and it names what is broken."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from standardwebhooks import Webhook

from ops.chaos.buckets import Buckets, buckets_of
from ops.chaos.checker import check
from ops.chaos.history import Adjusted, Asked, Endpoint, History, Posted, Tenant
from ops.chaos.judges import JUDGES
from ops.chaos.observe import Seen
from ops.chaos.outside import Delivery, Mail
from ops.chaos.said import Said

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
EVENT, ENDPOINT = uuid4(), str(uuid4())
NOW = datetime.now(UTC)
#: Each movement of stock has one of its own.
MOMENTS_MS = count(int(NOW.timestamp() * 1_000) + 1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


class World:
    """One tenant, one confirmed order: what was told and what is there."""

    def __init__(self) -> None:
        self.tenant = Tenant(str(uuid4()), "tenant-0", "key", "admin", ["SCARCE-0"], ["PLENTY-0"])
        self.posted = Posted(self.tenant, {"PLENTY-0": 2}, outcome="accepted", order_id=str(uuid4()))
        self.posted.answers.add(b"202")
        self.history = History()
        self.history.begin(self.posted)
        tenant_id, order_id = UUID(self.tenant.id), UUID(self.posted.order_id)
        self.order = SimpleNamespace(
            id=order_id, tenant_id=tenant_id, idempotency_key=self.posted.key, status="confirmed", root_job_id=uuid4(),
            created_at=ago(20.0),
        )  # fmt: skip
        self.root = job(tenant_id, "inventory.reserve", order_id)
        self.mail_job = job(tenant_id, "email.order_confirmed", order_id)
        self.delivery_job = job(tenant_id, "webhook.deliver", order_id, EVENT)
        self.deed = job(tenant_id, "chaos.deed", order_id)
        self.deeds = [SimpleNamespace(job_id=self.deed.id, claim=1)]
        self.event = SimpleNamespace(
            id=EVENT, tenant_id=tenant_id, type="order.confirmed", subject=order_id, occurred_at=ago(15.0)
        )  # fmt: skip
        self.stock = SimpleNamespace(tenant_id=tenant_id, sku="PLENTY-0", on_hand=10, reserved=2)
        self.ledger = [
            entry(tenant_id, None, "received", on_hand=10),
            entry(tenant_id, order_id, "reserved", reserved=2),
        ]
        self.released = entry(tenant_id, order_id, "released", reserved=-2)
        self.mails = [Mail("<1@x>", self.posted.email, "confirmed", 1.0, acknowledged=True)]
        self.deliveries = [delivery(EVENT)]
        self.orders = [self.order]
        self.attempts = [attempt(one.id) for one in (self.root, self.mail_job, self.delivery_job, self.deed)]
        self.endpoint = Endpoint(self.tenant, "/tenant-0", ENDPOINT, SECRET, since=0.0)
        self.report = Asked(self.tenant, "report-0", "job-0", ago(30.0), NOW, 1.0, [self.posted.order_id], 90, 1, 90)
        self.history.reports.append(self.report)
        self.report_states = {"report-0": "succeeded"}
        self.letter = SimpleNamespace(id=uuid4(), job_id=uuid4(), resolution="replayed")
        self.letters: list[Any] = []
        self.history.resolved[str(self.letter.id)] = "replayed"
        self.history.succeeded.add(str(self.root.id))
        self.said = Said()
        self.broken: dict[str, list[str]] = {}
        self.seen_status = "confirmed"
        self.refused: set[str] = set()
        self.canaries: list[str] = []
        self.too_soon: list[Any] = []

    def refuse_for_good(self, state: str = "cancelled") -> None:
        """The mail server knows no such address, and this is what the job is afterwards."""
        self.mails.clear()
        self.refused.add(self.posted.email)
        self.mail_job.state, self.mail_job.has_letter = state, True
        self.attempts[1].outcome = state

    def answered(self, status: int | None) -> None:
        self.deliveries = [msgspec.structs.replace(one, status=status) for one in self.deliveries]

    def tried_twice(self, outcome: str, again_s: float) -> None:
        self.root.claim = 2
        self.attempts[0].outcome = outcome
        self.attempts.insert(1, attempt(self.root.id, 2, started_s=again_s))

    def crashed(self, times: int) -> None:
        self.attempts += [attempt(self.root.id, 2 + number, outcome="crashed") for number in range(times)]

    def adjusted(self, delta: int, done: Any) -> None:
        self.history.adjustments.append(Adjusted(self.tenant.id, "PLENTY-0", delta, done))

    def findings(self) -> set[str]:
        return {finding.promise for finding in check(self.history, self.seen())}

    def seen(self) -> Seen:
        return Seen(
            orders=self.orders,  # type: ignore[arg-type]  # rows, as far as the checker looks
            jobs=[self.root, self.mail_job, self.delivery_job, self.deed],
            events_published=[self.event],  # type: ignore[list-item]
            stock=[self.stock],  # type: ignore[list-item]
            ledger=self.ledger,
            broken_invariants=self.broken,
            statuses={self.posted.order_id: self.seen_status},
            deliveries=self.deliveries,
            mails=self.mails,
            attempts=self.attempts,
            letters=[self.letter, *self.letters],  # type: ignore[list-item]
            report_states=self.report_states,
            endpoints=[self.endpoint],
            said=self.said,
            events={},
            deeds=self.deeds,  # type: ignore[arg-type]
            refused=frozenset(self.refused),
            canaries=self.canaries,
            too_soon=self.too_soon,
        )


def job(tenant_id: UUID, kind: str, order_id: UUID, event_id: UUID | None = None) -> Any:
    return SimpleNamespace(
        id=uuid4(), tenant_id=tenant_id, kind=kind, state="succeeded", attempt=1, claim=1, crashes=0,
        order_id=order_id, event_id=event_id, has_letter=False, created_at=ago(20.0), started_at=ago(19.0),
        finished_at=ago(18.0), endpoint_id=ENDPOINT if event_id else None, code="DELIVERED" if event_id else None,
        how=None,
    )  # fmt: skip


def attempt(job_id: UUID, claim: int = 1, outcome: str = "succeeded", started_s: float = 19.0) -> Any:
    return SimpleNamespace(
        job_id=job_id, claim=claim, number=claim, outcome=outcome, started_at=ago(started_s), finished_at=ago(18.0),
    )  # fmt: skip


def entry(tenant_id: UUID, order_id: UUID | None, reason: str, on_hand: int = 0, reserved: int = 0) -> Any:
    return SimpleNamespace(
        id=UUID(int=next(MOMENTS_MS) << 80), at=ago(0.0),
        tenant_id=tenant_id, sku="PLENTY-0", order_id=order_id, reason=reason, on_hand_delta=on_hand,
        reserved_delta=reserved,
    )  # fmt: skip


def delivery(
    event_id: UUID, *, webhook_id: str = "", secret: str = SECRET, more: str = "", late_s: float = 0.0
) -> Delivery:
    webhook_id = webhook_id or f"msg_{event_id.hex}"
    body = msgspec.json.encode({"id": str(event_id), "more": more})
    at = int(time.time())
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(at, UTC), body.decode())
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signature}
    return Delivery("/tenant-0", webhook_id, body, headers, 1.0, at + late_s, 204)


def test_where_all_is_well_nothing_is_found() -> None:
    assert World().findings() == set()


ATTEMPTS = "attempts follow one another"
REPORTS = "reports are whole and right"
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
    ("what an operator did is done", lambda w: setattr(w.letter, "resolution", None)),
    ("what an operator did is done", lambda w: setattr(w.letter, "id", uuid4())),
    ("logs tell no secret", lambda w: w.said.leaks.append("web-0 http_request")),
    ("no 202 comes too late", lambda w: w.said.late.append("after 5 s")),
    ("stock is never below nothing", lambda w: w.ledger.reverse()),
    ("stock by hand is counted once", lambda w: w.adjusted(5, "ok")),
    ("stock by hand is counted once", lambda w: w.ledger.append(entry(UUID(w.tenant.id), None, "adjusted", 7))),
    ("who left hears nothing new", lambda w: setattr(w.endpoint, "gone", ago(21.0).timestamp())),
    ("accepted is durable, and decided", lambda w: w.orders.clear()),
    ("accepted is durable, and decided", lambda w: setattr(w.order, "status", "accepted")),
    ("accepted is durable, and decided", lambda w: setattr(w, "seen_status", "rejected")),
    ("nothing comes from nowhere", lambda w: setattr(w.order, "idempotency_key", "of nobody")),
    ("every outcome can be learned", lambda w: setattr(w.posted, "outcome", "unknown")),
    ("one key, one order, one answer", lambda w: w.orders.append(w.order)),
    ("one key, one order, one answer", lambda w: w.posted.answers.add(b"another")),
    ("what is right is not refused", lambda w: setattr(w.posted, "outcome", "refused")),
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
    ("what crashes is dead by its third crash", lambda w: w.crashed(4)),
    ("work is done once", lambda w: w.deeds.clear()),
    ("work is done once", lambda w: w.deeds.append(w.deeds[0])),
    ("work is done once", lambda w: setattr(w.deed, "state", "dead")),
    ("work is done once", lambda w: setattr(w.deed, "claim", 2)),
    ("work is done once", lambda w: w.deeds.append(SimpleNamespace(job_id=uuid4(), claim=1))),
    ("an order gives back what it took", lambda w: setattr(w.order, "status", "cancelled")),
    ("an order gives back what it took", lambda w: setattr(w.order, "status", "completed")),
    ("an order gives back what it took", lambda w: w.ledger.append(w.released)),
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
    ("mails arrive", lambda w: w.mails.clear()),
    ("mails arrive", lambda w: setattr(w.mail_job, "order_id", uuid4())),
    ("mails arrive", lambda w: w.refuse_for_good()),
    ("mails are few", lambda w: w.mails.extend(w.mails * 3)),
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
    world.mails *= 3
    assert world.findings() == set()


def test_three_crashes_are_allowed_and_a_replay_allows_for_three_more() -> None:
    world, promise = World(), "what crashes is dead by its third crash"
    world.crashed(3)
    assert promise not in world.findings()
    world.crashed(1)
    world.letters = [SimpleNamespace(id=uuid4(), job_id=world.root.id, resolution="replayed") for _ in range(2)]
    assert promise not in world.findings()


def test_a_human_who_replays_a_mail_allows_for_more_copies() -> None:
    world = World()
    world.mails *= 5
    world.letter.job_id = world.mail_job.id
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
