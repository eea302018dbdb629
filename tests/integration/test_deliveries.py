"""One delivery and an answer that the test writes: what it means for the message, its endpoint and its lane."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.ids import new_id
from domain.job_kinds import DeliverWebhook
from domain.jobs import retry_now
from domain.jobs.attempts import ClaimedJob
from domain.jobs.dead_letters import replay_if_open
from domain.jobs.kind import find_kind
from domain.jobs.retry_policy import (
    DeadlineExceeded,
    Ending,
    Errored,
    PermanentFailure,
    RetryLater,
    Snooze,
    Snoozed,
)
from domain.lanes.lane_rules import Observation
from domain.webhooks.answer_rules import Answer
from domain.webhooks.endpoints import EndpointChange, change_endpoint
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    after,
    claimed,
    emptied_database,
    ended,
    enqueued,
    execute,
    module_database,
    resources,
    row,
    rows,
    scalar,
)
from tests.integration.test_events import endpoint, published
from workers.context import JobContext
from workers.handlers import webhooks
from workers.handlers.webhooks import DeliveryFailed, deliver_webhook


class Host:
    """Answers as it is told; `meanwhile` happens while it thinks."""

    def __init__(self, answer: Answer, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._answer, self._meanwhile = answer, meanwhile

    async def post(self, _url: str, _body: bytes, _headers: Mapping[str, str]) -> Answer:
        self._meanwhile()
        return self._answer


class Delivery:
    """An event on its way to an endpoint, and how that ends."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tenant_id = engine, a_tenant(engine)
        self.endpoint_id = endpoint(engine, self.tenant_id, "*")
        published(engine, self.tenant_id)
        self.job_id: UUID = scalar(engine, "SELECT id FROM jobs WHERE kind = 'webhook.deliver'")

    def begin(self) -> ClaimedJob:
        (job,) = claimed(self.engine, [self.job_id])
        return job

    def context(self, job: ClaimedJob, host: Host) -> JobContext:
        given: Any = host
        return JobContext(job, msgspec.structs.replace(resources(self.engine), http=given), 30.0)

    @staticmethod
    def args(job: ClaimedJob) -> Any:
        return find_kind(job.kind).decode(job.args)

    def end(self, job: ClaimedJob, host: Host) -> tuple[object, Observation | None]:
        """What the handler returns or raises, and what it tells of the lane."""
        ctx = self.context(job, host)
        try:
            return asyncio.run(deliver_webhook(self.args(job), ctx)), ctx.seen
        except Exception as error:  # noqa: BLE001  # how it ended is the answer
            return error, ctx.seen

    def change(self, **wanted: Any) -> None:
        with self.engine.begin() as tx:
            change_endpoint(tx, self.tenant_id, self.endpoint_id, EndpointChange(**wanted), None)

    def states(self) -> tuple[str | None, str]:
        """Why the endpoint is disabled, and the state of its lane."""
        return (
            scalar(self.engine, "SELECT disabled_reason FROM webhook_endpoints"),
            scalar(self.engine, "SELECT state FROM lanes WHERE name = :name", name=f"endpoint:{self.endpoint_id}"),
        )


@pytest.fixture
def delivery(engine: Engine) -> Delivery:
    return Delivery(engine)


def test_a_410_disables_the_endpoint_and_ends_the_message(delivery: Delivery) -> None:
    error, _ = delivery.end(delivery.begin(), Host(Answer(status=410)))
    assert isinstance(error, PermanentFailure)
    assert delivery.states() == ("HTTP 410", "disabled")


@pytest.mark.parametrize("change", [{"url": "https://new.example/"}, {"url": "https://new.example/", "enabled": True}])
def test_a_410_of_the_address_that_the_endpoint_had_before_does_not_disable_the_new_one(
    delivery: Delivery, change: dict[str, Any]
) -> None:
    error, _ = delivery.end(delivery.begin(), Host(Answer(status=410), lambda: delivery.change(**change)))
    assert isinstance(error, DeliveryFailed)  # and goes to the new address then
    assert delivery.states() == (None, "healthy")


def test_a_410_of_before_does_not_disable_what_its_owner_has_just_enabled(delivery: Delivery) -> None:
    def disable_and_enable() -> None:
        delivery.change(enabled=False)
        delivery.change(enabled=True)

    delivery.end(delivery.begin(), Host(Answer(status=410), disable_and_enable))
    assert delivery.states() == (None, "healthy")


def test_a_pause_that_the_old_address_asked_for_does_not_hold_up_the_new_one(delivery: Delivery) -> None:
    busy = Answer(status=429, retry_after="3600")
    job = delivery.begin()
    error, seen = delivery.end(job, Host(busy, lambda: delivery.change(url="https://new.example/")))
    assert isinstance(error, Snooze)
    assert (error.seconds, seen) == (1, Observation(None))  # it is told again at once, at the new one
    assert delivery.end(job, Host(busy))[1] == Observation(False, 0, park_s=3600)


def test_a_retry_that_the_old_address_named_a_time_for_goes_to_the_new_one_by_the_schedule(delivery: Delivery) -> None:
    away = Answer(status=503, retry_after="3600")
    error, seen = delivery.end(delivery.begin(), Host(away, lambda: delivery.change(url="https://new.example/")))
    assert (type(error), seen) == (DeliveryFailed, Observation(None))


@pytest.mark.parametrize("ending", [Snoozed(3600, "HTTP 429"), Errored("DeliveryFailed", "HTTP 500")])
def test_what_waits_for_a_later_time_is_due_at_once_at_a_new_address(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    # Given a message that waits for its own later time, one that was rung, and one of another endpoint
    engine = delivery.engine
    ended(engine, delivery.begin(), ending)
    lane = f"endpoint:{delivery.endpoint_id}"
    (rung,) = enqueued(engine, delivery.tenant_id, an_event(delivery), lane=lane, due_in_s=60)
    execute(engine, "UPDATE outbox SET rings = 1 WHERE job_id = :id", id=rung)
    (other,) = enqueued(engine, delivery.tenant_id, an_event(delivery), lane="endpoint:other", due_in_s=60)
    later = "SELECT job_id FROM outbox WHERE due_at > now()"
    assert {job_id for (job_id,) in rows(engine, later)} == {delivery.job_id, rung, other}
    # When anything else is changed, it waits on; when its address is, it is due
    delivery.change(event_types=["order.failed"])
    assert len(rows(engine, later)) == 3
    delivery.change(url="https://new.example/")
    assert {job_id for (job_id,) in rows(engine, later)} == {rung, other}
    assert scalar(engine, "SELECT due_at <= now() FROM jobs WHERE id = :id", id=delivery.job_id)
    # And of very many as many as are moved without making anybody wait
    monkeypatch.setattr(retry_now, "MOST_HURRIED", 2)
    enqueued(engine, delivery.tenant_id, *[an_event(delivery) for _ in range(3)], lane=lane, due_in_s=60)
    delivery.change(url="https://newer.example/")
    assert len(rows(engine, later)) == 3


def an_event(delivery: Delivery) -> DeliverWebhook:
    return DeliverWebhook(delivery.endpoint_id, new_id())


def _is_away(_ctx: JobContext, _look_up: object) -> None:
    raise OperationalError("SELECT", None, Exception("the connection is closed"))


def _has_no_room(_ctx: JobContext, _look_up: object) -> None:
    raise PoolTimeout


def _hangs(_ctx: JobContext, _look_up: object) -> None:
    time.sleep(0.5)


@pytest.mark.parametrize("database", [_is_away, _has_no_room, _hangs])
@pytest.mark.parametrize(
    ("answer", "expected", "seen"),
    [
        (Answer(status=200, control="pause=600"), {"code": "DELIVERED"}, Observation(True, 0, park_s=600)),
        (Answer(status=200, control="disable"), {"code": "DELIVERED"}, Observation(None)),
        (Answer(status=429, retry_after="600"), Snooze, Observation(False, 0, park_s=600)),
        (Answer(status=503, retry_after="600"), RetryLater, Observation(False, 0, park_s=600)),
        (Answer(status=410), DeliveryFailed, Observation(None)),  # and is told so again, when it can be disabled
    ],
)
def test_what_a_subscriber_answered_counts_also_when_the_database_cannot_be_asked_then(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    database: Callable[..., None],
    answer: Answer,
    expected: Any,
    seen: Observation,
) -> None:
    monkeypatch.setattr(webhooks, "LOOK_UP_S", 0.1)
    host = Host(answer, lambda: monkeypatch.setattr(JobContext, "at_once", database))
    end, told = delivery.end(delivery.begin(), host)
    assert end == expected or type(end) is expected, end
    assert (getattr(end, "seconds", getattr(end, "after_s", 600)), told) == (600, seen)


def test_a_delivery_that_is_cancelled_while_the_database_is_asked_ends_so(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = delivery.begin()
    ctx = delivery.context(job, Host(BUSY, lambda: monkeypatch.setattr(JobContext, "at_once", _hangs)))

    async def late() -> None:
        async with asyncio.timeout(0.2):
            await deliver_webhook(delivery.args(job), ctx)

    with pytest.raises(TimeoutError):
        asyncio.run(late())


BUSY = Answer(status=429, retry_after="1")


def test_a_message_that_was_held_for_long_is_not_given_up_at_its_first_429(delivery: Delivery) -> None:
    for table, column in (("events", "occurred_at"), ("jobs", "created_at"), ("jobs", "due_at"), ("outbox", "due_at")):
        execute(delivery.engine, f"UPDATE {table} SET {column} = {column} - interval '30 days'")
    assert isinstance(delivery.end(delivery.begin(), Host(BUSY))[0], Snooze)


THROTTLED = Snoozed(0.0, "HTTP 429")


def test_a_message_that_is_throttled_for_a_week_is_given_up_and_a_replay_has_a_week_of_its_own(
    delivery: Delivery,
) -> None:
    job = after(delivery.engine, delivery.begin(), [THROTTLED] * 27, apart=timedelta(hours=6))
    assert isinstance(delivery.end(job, Host(BUSY))[0], Snooze)
    job = after(delivery.engine, job, [THROTTLED] * 2, apart=timedelta(hours=6))
    error, _ = delivery.end(job, Host(BUSY))
    assert isinstance(error, PermanentFailure)
    ended(delivery.engine, job, Errored("PermanentFailure", str(error), permanent=True))
    _replay(delivery)
    assert isinstance(delivery.end(delivery.begin(), Host(BUSY))[0], Snooze)


OTHERS = [Snoozed(0.0, "local_error"), Snoozed(0.0, "the worker is stopping", handed_back=True)]


@pytest.mark.parametrize("held", OTHERS)
def test_time_in_which_a_message_was_held_or_came_back_for_another_reason_is_not_of_the_week(
    delivery: Delivery, held: Snoozed
) -> None:
    job = after(delivery.engine, delivery.begin(), [THROTTLED, THROTTLED], apart=timedelta(days=8))
    assert isinstance(delivery.end(job, Host(BUSY))[0], Snooze)
    job = after(delivery.engine, job, [held] * 40, apart=timedelta(hours=6))
    assert isinstance(delivery.end(job, Host(BUSY))[0], Snooze)


@pytest.mark.parametrize("other", OTHERS)
def test_what_says_nothing_of_the_endpoint_does_not_end_a_week_of_429(delivery: Delivery, other: Snoozed) -> None:
    job = after(delivery.engine, delivery.begin(), [THROTTLED, other] * 18, apart=timedelta(hours=5))
    assert isinstance(delivery.end(job, Host(BUSY))[0], PermanentFailure)


def test_a_message_that_died_of_its_deadline_after_a_week_of_429_has_a_week_of_its_own_when_replayed(
    delivery: Delivery,
) -> None:
    job = after(delivery.engine, delivery.begin(), [THROTTLED] * 30, apart=timedelta(hours=6))
    ended(delivery.engine, job, DeadlineExceeded())
    _replay(delivery)
    assert isinstance(delivery.end(delivery.begin(), Host(BUSY))[0], Snooze)


def _replay(delivery: Delivery) -> None:
    with delivery.engine.begin() as tx:
        replay_if_open(tx, scalar(delivery.engine, "SELECT id FROM dead_letters"), "olga")
