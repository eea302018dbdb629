"""A delivery goes by the database's clock: a worker whose own is an hour off signs what subscribers believe."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from domain.database import DatabaseTime
from domain.ids import new_id
from domain.job_kinds import DeliverWebhook
from domain.jobs.attempts import Refusals
from domain.jobs.retry_policy import Snooze
from domain.webhooks.answer_rules import Answer
from domain.webhooks.endpoints import Subscriber
from workers.handlers import webhooks

PARCEL = webhooks.Parcel(
    Subscriber(new_id(), 1, "https://shop.example", [b"k" * 32], None, older_headers=True),
    "order.confirmed",
    b"{}",
)


@pytest.mark.parametrize("hours", [1, -2])
def test_the_time_that_is_signed_and_the_wait_that_was_asked_for_are_the_databases(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    right = datetime.now(UTC) + timedelta(hours=hours)
    database_time = DatabaseTime()
    database_time.hear(right)
    monkeypatch.setattr(webhooks, "database_time", database_time)
    sent: list[dict[str, str]] = []

    async def post(_url: str, _body: bytes, headers: dict[str, str]) -> Answer:
        sent.append(headers)
        return Answer(status=429, retry_after=format_datetime(right + timedelta(minutes=5), usegmt=True))

    found = iter([PARCEL, True, Refusals(0, right)])  # what to send, the endpoint is as it was, and it is the first try

    async def in_thread(_work: object) -> object:
        return next(found)

    ctx: Any = SimpleNamespace(in_thread=in_thread, http=SimpleNamespace(post=post), attempt=1)
    with pytest.raises(Snooze) as asked:
        asyncio.run(webhooks.deliver_webhook(DeliverWebhook(new_id(), new_id()), ctx))
    assert int(sent[0]["webhook-timestamp"]) == pytest.approx(right.timestamp(), abs=60)
    assert asked.value.seconds == pytest.approx(300, abs=60)
