"""One delivery and an answer that the test writes: what it means for the message, its endpoint and its lane."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine

from domain.jobs.attempts import ClaimedJob
from domain.jobs.dead_letters import replay_if_open
from domain.jobs.kind import find_kind
from domain.jobs.retry_policy import Errored, PermanentFailure, Snooze, Snoozed
from domain.lanes.lane_rules import Observation
from domain.webhooks.answer_rules import Answer
from domain.webhooks.endpoints import EndpointChange, change_endpoint
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    claimed,
    emptied_database,
    ended,
    execute,
    module_database,
    resources,
    row,
    rows,
    scalar,
)
from tests.integration.test_events import endpoint, published
from workers.context import JobContext
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

    def end(self, job: ClaimedJob, host: Host) -> tuple[object, Observation | None]:
        """What the handler returns or raises, and what it tells of the lane."""
        given: Any = host
        ctx = JobContext(job, msgspec.structs.replace(resources(self.engine), http=given), 30.0)
        try:
            return asyncio.run(deliver_webhook(find_kind(job.kind).decode(job.args), ctx)), ctx.seen
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
    assert seen == Observation(None)
    assert delivery.end(job, Host(busy))[1] == Observation(False, 0, park_s=3600)


BUSY = Answer(status=429, retry_after="1")


def test_a_message_that_was_held_for_long_is_not_given_up_at_its_first_429(delivery: Delivery) -> None:
    for table, column in (("events", "occurred_at"), ("jobs", "created_at"), ("jobs", "due_at"), ("outbox", "due_at")):
        execute(delivery.engine, f"UPDATE {table} SET {column} = {column} - interval '30 days'")
    assert isinstance(delivery.end(delivery.begin(), Host(BUSY))[0], Snooze)


def test_a_message_that_is_throttled_for_a_week_is_given_up_and_a_replay_has_a_week_of_its_own(
    delivery: Delivery,
) -> None:
    job = delivery.begin()
    for days, expected in [(0, Snooze), (6, Snooze), (8, PermanentFailure)]:
        execute(delivery.engine, f"UPDATE attempts SET started_at = now() - interval '{days} days' WHERE claim = 1")
        error, _ = delivery.end(job, Host(BUSY))
        assert isinstance(error, expected), days
        ending = Errored("PermanentFailure", str(error), permanent=True) if days == 8 else Snoozed(0.0, str(error))
        ended(delivery.engine, job, ending)
        job = delivery.begin() if days < 8 else job
    with delivery.engine.begin() as tx:
        replay_if_open(tx, scalar(delivery.engine, "SELECT id FROM dead_letters"), "olga")
    assert isinstance(delivery.end(delivery.begin(), Host(BUSY))[0], Snooze)
