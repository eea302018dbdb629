"""A small world that a chaos run might have left behind, where all is well, and hands to harm it."""

from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
from standardwebhooks import Webhook

from ops.chaos.checker import check
from ops.chaos.history import Adjusted, Asked, Ending, Endpoint, History, Pause, Posted, Tenant, Verb
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
        tenant_id, order_id = UUID(self.tenant.id), UUID(self.posted.order_id)
        self.order = SimpleNamespace(
            id=order_id, tenant_id=tenant_id, idempotency_key=self.posted.key, status="confirmed", root_job_id=uuid4(),
            customer_email=self.posted.email, currency="USD", lines={"PLENTY-0": 2}, created_at=ago(20.0),
        )  # fmt: skip
        self.orders, self.seen_status, self.total = [self.order], "confirmed", 19.0
        self._work(tenant_id, order_id)
        self.event = event(tenant_id, order_id, "order.confirmed", 15.0, EVENT)
        # Before there was a subscriber.
        self.events = [event(tenant_id, order_id, "order.created"), event(tenant_id, "report-0", "report.completed")]
        self.stock = SimpleNamespace(tenant_id=tenant_id, sku="PLENTY-0", on_hand=10, reserved=2)
        self.ledger = [
            entry(tenant_id, None, "received", on_hand=10),
            entry(tenant_id, order_id, "reserved", reserved=2),
        ]
        self.released = entry(tenant_id, order_id, "released", reserved=-2)
        self.mails = [mail(self.posted, "is confirmed", "2 x Thing (PLENTY-0)\nTotal: 19.00 USD")]
        self.report = Asked(self.tenant, "report-0", "job-0", ago(30.0), NOW, 1.0, [self.posted.order_id], 90, 1, 90)
        self.report.cells = [[ago(20.0).isoformat(), "accepted", "", self.posted.email, "USD", "19.00"]]
        self.report_states = {"report-0": "succeeded"}
        self.said = Said(slowest_accepted_s=0.1)
        self.broken: dict[str, list[str]] = {}
        self._outside()
        self._told()

    def _work(self, tenant_id: UUID, order_id: UUID) -> None:
        """Jobs and their attempts; one was dead at first."""
        self.root = job(tenant_id, "inventory.reserve", order_id)
        self.mail_job = job(tenant_id, "email.order_confirmed", order_id)
        self.delivery_job = job(tenant_id, "webhook.deliver", order_id, EVENT)
        self.deed = job(tenant_id, "chaos.deed", order_id)
        self.doomed = job(tenant_id, "chaos.doomed", order_id)
        self.doomed.attempt = self.doomed.claim = 2
        self.jobs: list[Any] = []
        self.attempts = [attempt(one.id) for one in (self.root, self.mail_job, self.delivery_job, self.deed)]
        self.attempts += [attempt(self.doomed.id, 1, "dead"), attempt(self.doomed.id, 2, started_s=18.0)]
        self.deeds = [SimpleNamespace(job_id=self.deed.id, claim=1), SimpleNamespace(job_id=self.doomed.id, claim=2)]
        self.letter = letter(self.doomed, "permanent", 1, "replayed")
        self.letters: list[Any] = []

    def _outside(self) -> None:
        """What subscribers and the mail server know."""
        self.endpoint = Endpoint(self.tenant, "/tenant-0", ENDPOINT, SECRET, since=ago(17.0).timestamp())
        self.paths = {ENDPOINT: "/tenant-0"}
        self.deliveries = [delivery(EVENT)]
        self.aside: list[Delivery] = []
        self.refused: set[str] = set()
        self.canaries: list[str] = []
        self.too_soon: list[Any] = []

    def _told(self) -> None:
        """What callers and operators did, and were told."""
        self.history = History()
        self.history.begin(self.posted)
        self.history.reports.append(self.report)
        self.history.resolved[str(self.letter.id)] = "replayed"
        self.history.succeeded.add(str(self.root.id))
        self.ticks: list[Any] = []
        self.history.enqueued |= {str(self.deed.id), str(self.doomed.id)}

    def refuse_for_good(self, state: str = "cancelled") -> None:
        """The mail server knows no such address, and this is what the job is afterwards."""
        self.mails.clear()
        self.refused.add(self.posted.email)
        self.dies(self.mail_job, "permanent")
        self.mail_job.state = self.attempts[-1].outcome = state

    def dies(self, one: Any, cause: str, number: int = 1) -> None:
        """After so many attempts, with a letter."""
        one.state, one.has_letter, one.attempt, one.claim = "dead", True, number, number
        others = [each for each in self.attempts if each.job_id != one.id]
        made = [attempt(one.id, each, "dead" if each == number else "retrying", 18.0) for each in range(1, number + 1)]
        self.attempts = [*others, *made]
        self.letters.append(letter(one, cause, number))

    def mailed(self, times: int) -> None:
        """So often, in as many attempts."""
        self.mails *= times
        self.mail_job.attempt = self.mail_job.claim = times
        others = [each for each in self.attempts if each.job_id != self.mail_job.id]
        made = [attempt(self.mail_job.id, each, "retrying", 18.0) for each in range(1, times)]
        self.attempts = [*others, *made, attempt(self.mail_job.id, times, started_s=18.0)]

    def edited(self, args: dict[str, object]) -> None:
        """A deed that gave up, by an operator: another stands in for it."""
        again = job(self.order.tenant_id, "chaos.deed", self.order.id)
        self.dies(self.deed, "permanent")
        self.letters[0].resolution, self.letters[0].replay_job_id = "edited", again.id
        again.args = args
        self.jobs, self.attempts = [again], [*self.attempts, attempt(again.id)]
        self.deeds[0].job_id = again.id

    def stood(self, fault: str, touches: str, since_s: float = 22.0, until_s: float = 10.0) -> None:
        """A fault, from so many seconds ago until so many seconds ago."""
        with self.history.stage.standing(fault, touches) as turn:
            pass
        turn.since, turn.until = ago(since_s).timestamp(), ago(until_s).timestamp()

    def answered(self, status: int | None) -> None:
        self.deliveries = [msgspec.structs.replace(one, status=status) for one in self.deliveries]

    def asked_for_patience(self, for_s: float) -> None:
        """A subscriber did, and has the message again after so many seconds."""
        (taken,) = self.deliveries
        asked = msgspec.structs.replace(taken, status=503, at=taken.at - for_s, received_at=taken.received_at - for_s)
        self.deliveries = [asked, taken]
        self.delivery_job.claim = 2
        self.attempts.append(attempt(self.delivery_job.id, 2, started_s=18.0))

    def tried_twice(self, outcome: str, again_s: float) -> None:
        self.root.claim = 2
        self.attempts[0].outcome = outcome
        self.attempts.insert(1, attempt(self.root.id, 2, started_s=again_s))

    def crashed(self, times: int) -> None:
        self.attempts += [attempt(self.root.id, 2 + number, outcome="crashed") for number in range(times)]

    def ended(self, verb: Verb, job: Any) -> None:
        self.history.endings.append(Ending(self.posted.order_id, verb, str(job.id)))

    def paused(self, since_s: float, until_s: float) -> None:
        self.history.pauses.append(Pause("inventory", ago(since_s), ago(until_s)))

    def ticked(self, *minutes: int) -> Any:
        """A schedule of which two ticks have passed, and these were fired."""
        self.history.schedules["each-minute"] = NOW
        ticks = [(NOW + timedelta(minutes=each)).isoformat() for each in minutes]
        return SimpleNamespace(name="each-minute", next_at=NOW + timedelta(minutes=2), ticks=ticks)

    def lost_its_lease(self) -> None:
        self.deed.kind = "chaos.patient"
        self.attempts[3].outcome = "crashed"

    def adjusted(self, delta: int, done: Any) -> None:
        self.history.adjustments.append(Adjusted(self.tenant.id, "PLENTY-0", delta, done))

    def findings(self) -> set[str]:
        return {finding.promise for finding in check(self.history, self.seen())}

    def seen(self) -> Seen:
        return Seen(
            orders=self.orders,  # type: ignore[arg-type]  # rows, as far as the checker looks
            jobs=[self.root, self.mail_job, self.delivery_job, self.deed, self.doomed, *self.jobs],
            events_published=[self.event, *self.events],
            stock=[self.stock],  # type: ignore[list-item]
            ledger=self.ledger,
            broken_invariants=self.broken,
            statuses={self.posted.order_id: self.seen_status},
            totals={self.posted.order_id: self.total},
            deliveries=self.deliveries,
            mails=self.mails,
            attempts=self.attempts,
            letters=[self.letter, *self.letters],
            report_states=self.report_states,
            endpoints=[self.endpoint],
            said=self.said,
            events={},
            deeds=self.deeds,  # type: ignore[arg-type]
            refused=frozenset(self.refused),
            canaries=self.canaries,
            too_soon=self.too_soon,
            ticks=self.ticks,
            aside=self.aside,
            paths=self.paths,
        )


def job(tenant_id: UUID, kind: str, order_id: UUID, event_id: UUID | None = None) -> Any:
    return SimpleNamespace(
        id=uuid4(), tenant_id=tenant_id, kind=kind, state="succeeded", attempt=1, claim=1, crashes=0,
        order_id=order_id, event_id=event_id, has_letter=False, created_at=ago(20.0), started_at=ago(19.0),
        finished_at=ago(18.0), endpoint_id=ENDPOINT if event_id else None, code="DELIVERED" if event_id else None,
        how=None, fails=kind == "chaos.deed" or None, args={},
    )  # fmt: skip


def letter(of: Any, cause: str, number: int, resolution: str | None = None) -> Any:
    return SimpleNamespace(
        id=uuid4(), job_id=of.id, kind=of.kind, cause=cause, number=number, resolution=resolution, died_at=ago(17.0),
        replay_job_id=of.id if resolution else None,
    )  # fmt: skip


def event(tenant_id: UUID, subject: Any, type_: str, at_s: float = 19.0, id_: UUID | None = None) -> Any:
    return SimpleNamespace(
        id=id_ or uuid4(), tenant_id=tenant_id, type=type_, subject=subject, occurred_at=ago(at_s)
    )  # fmt: skip


def mail(to: Posted, decision: str, text: str) -> Mail:
    subject, text = f"Your order {to.order_id} {decision}", f"Your order {to.order_id}:\n{text}\n"
    return Mail("<1@x>", to.email, subject, 1.0, acknowledged=True, text=text)


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
    at = int(NOW.timestamp())
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(at, UTC), body.decode())
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signature}
    return Delivery("/tenant-0", webhook_id, body, headers, 1.0, at + late_s, 204)
