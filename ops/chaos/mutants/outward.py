"""Seeded bugs of what goes out: mails and webhooks."""

from contextlib import suppress
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import msgspec

from domain.jobs.retry_policy import RetryLater
from domain.webhooks.answer_rules import Answer, Delivered, Retry, judge
from domain.webhooks.endpoints import Subscriber, subscriber
from ops.chaos.mutants.graft import imported, mutant, replace
from workers.clients.mailer import Mailer

_WEBHOOKS = "workers.handlers.webhooks"


@mutant("mails are few", faults=["mail-fails"])
def message_id_for_each_attempt() -> None:
    """A mail that is sent again has another Message-ID."""
    send = Mailer.send
    replace(Mailer, "send", lambda self, mail, **_: send(self, mail, idempotency_key=uuid4()))


@mutant("mails arrive", faults=["mail-fails"])
def refused_for_now_is_sent() -> None:
    """A mail that the server will take later counts as sent."""
    send = Mailer.send

    def send_once(self: Mailer, mail: EmailMessage, idempotency_key: UUID) -> None:
        with suppress(RetryLater):
            send(self, mail, idempotency_key)

    replace(Mailer, "send", send_once)


@mutant("webhooks are genuine", faults=["webhook-reply-lost"])
def webhook_id_for_each_attempt() -> None:
    """A webhook that is delivered again has another id."""
    replace(imported(_WEBHOOKS), "message_id", lambda _event_id: f"msg_{uuid4().hex}")


@mutant("webhooks are genuine")
def signed_with_anothers_secret() -> None:
    """The secret that was looked up first is kept, and signs for everybody."""
    kept: list[bytes] = []

    def first_secret(*whose: Any) -> Subscriber | None:
        if (found := subscriber(*whose)) is None:
            return None
        kept.extend([] if kept else found.secrets)
        return msgspec.structs.replace(found, secrets=kept)

    replace(imported(_WEBHOOKS), "subscriber", first_secret)


@mutant("webhooks are acknowledged", faults=["webhook-errors"])
def any_answer_is_a_delivery() -> None:
    """Whatever a subscriber answers, the event counts as delivered."""

    def content(answer: Answer, now: Any) -> Any:
        verdict = judge(answer, now)
        return Delivered() if isinstance(verdict, Retry) else verdict

    replace(imported(_WEBHOOKS), "judge", content)
