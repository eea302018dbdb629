"""The judge of a chaos run: silent when all is well, and it names what is broken."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from standardwebhooks import Webhook

from ops.chaos.checker import check
from ops.chaos.history import History, Posted, Tenant
from ops.chaos.observe import Seen
from ops.chaos.outside import Delivery, Mail

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
EVENT = uuid4()


class World:
    """One tenant, one confirmed order: what was told and what is there."""

    def __init__(self) -> None:
        self.tenant = Tenant(str(uuid4()), "tenant-0", "key", "admin", ["SCARCE-0"], ["PLENTY-0"])
        self.posted = Posted(self.tenant, {"PLENTY-0": 2}, 0.0, outcome="accepted", order_id=str(uuid4()))
        self.posted.answers.add(b"202")
        self.history = History()
        self.history.begin(self.posted)
        tenant_id, order_id = UUID(self.tenant.id), UUID(self.posted.order_id)
        self.order = SimpleNamespace(
            id=order_id, tenant_id=tenant_id, idempotency_key=self.posted.key, status="confirmed", root_job_id=uuid4()
        )
        self.root = job(tenant_id, "inventory.reserve", order_id)
        self.mail_job = job(tenant_id, "email.order_confirmed", order_id)
        self.delivery_job = job(tenant_id, "webhook.deliver", order_id, EVENT)
        self.deed = job(tenant_id, "chaos.deed", order_id)
        self.deeds = [SimpleNamespace(job_id=self.deed.id, claim=1)]
        self.tries = SimpleNamespace(
            job_id=self.root.id, kind="inventory.reserve", state="succeeded", successes=1, crashes=0, deaths=0
        )
        self.event = SimpleNamespace(id=EVENT, tenant_id=tenant_id, type="order.confirmed", subject=order_id)
        self.stock = SimpleNamespace(tenant_id=tenant_id, sku="PLENTY-0", on_hand=10, reserved=2)
        self.ledger = [
            entry(tenant_id, None, "received", on_hand=10),
            entry(tenant_id, order_id, "reserved", reserved=2),
        ]
        self.released = entry(tenant_id, order_id, "released", reserved=-2)
        self.mails = [Mail("<1@x>", self.posted.email, "confirmed", 1.0, acknowledged=True)]
        self.deliveries = [delivery(EVENT)]
        self.orders = [self.order]
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

    def answered(self, status: int | None) -> None:
        self.deliveries = [msgspec.structs.replace(one, status=status) for one in self.deliveries]

    def findings(self) -> set[str]:
        seen = Seen(
            orders=self.orders,  # type: ignore[arg-type]  # rows, as far as the checker looks
            jobs=[self.root, self.mail_job, self.delivery_job, self.deed],
            events_published=[self.event],  # type: ignore[list-item]
            stock=[self.stock],  # type: ignore[list-item]
            ledger=self.ledger,
            broken_invariants=self.broken,
            statuses={self.posted.order_id: self.seen_status},
            deliveries=self.deliveries,
            mails=self.mails,
            subscribers={"/tenant-0": (self.tenant.id, SECRET)},
            events={},
            deeds=self.deeds,  # type: ignore[arg-type]
            tries=[self.tries],  # type: ignore[list-item]
            refused=frozenset(self.refused),
            canaries=self.canaries,
            too_soon=self.too_soon,
        )
        return {finding.promise for finding in check(self.history, seen)}


def job(tenant_id: UUID, kind: str, order_id: UUID, event_id: UUID | None = None) -> Any:
    return SimpleNamespace(
        id=uuid4(), tenant_id=tenant_id, kind=kind, state="succeeded", attempt=1, claim=1, crashes=0,
        order_id=order_id, event_id=event_id, has_letter=False,
    )  # fmt: skip


def entry(tenant_id: UUID, order_id: UUID | None, reason: str, on_hand: int = 0, reserved: int = 0) -> Any:
    return SimpleNamespace(
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


BROKEN: list[tuple[str, Callable[[World], object]]] = [
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
    ("stock is conserved", lambda w: setattr(w.stock, "reserved", 3)),
    ("stock is conserved", lambda w: w.ledger.append(w.ledger[-1])),
    ("an order takes all it asked for, or nothing", lambda w: setattr(w.ledger[-1], "reserved_delta", 1)),
    ("an order takes all it asked for, or nothing", lambda w: setattr(w.order, "status", "rejected")),
    ("work is done once", lambda w: w.deeds.clear()),
    ("work is done once", lambda w: w.deeds.append(w.deeds[0])),
    ("work is done once", lambda w: setattr(w.deed, "state", "dead")),
    ("work is done once", lambda w: setattr(w.deed, "claim", 2)),
    ("work is done once", lambda w: w.deeds.append(SimpleNamespace(job_id=uuid4(), claim=1))),
    ("a job succeeds once, and is dead by its third crash", lambda w: setattr(w.tries, "successes", 2)),
    ("a job succeeds once, and is dead by its third crash", lambda w: setattr(w.tries, "state", "dead")),
    ("a job succeeds once, and is dead by its third crash", lambda w: setattr(w.tries, "crashes", 4)),
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
