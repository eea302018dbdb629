"""Delivering an event to one subscriber: signed anew on each attempt, over the same bytes, under one constant id.

What the subscriber answered counts, also where the database cannot be asked afterwards.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import random
from typing import TypeVar

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from domain.database import database_time
from domain.job_kinds import DeliverWebhook
from domain.jobs.attempts import Refusals, refusals_of
from domain.jobs.retry_policy import Backoff, ExternalFailure, PermanentFailure, RetryLater, Snooze
from domain.lanes.lane_rules import Observation
from domain.webhooks.answer_rules import (
    WAIT_MIN_S,
    AbortMessage,
    Answer,
    Delivered,
    DisableEndpoint,
    Postponed,
    Retry,
    Throttled,
    Verdict,
    judge,
)
from domain.webhooks.cloud_event import encode_event
from domain.webhooks.endpoints import (
    RetryOverride,
    Subscriber,
    disable_endpoint,
    get_event,
    is_at_version,
    subscriber,
)
from domain.webhooks.signature_rules import message_id, signed_headers
from workers.context import JobContext
from workers.registry import handles

#: A 429 uses up no attempt, so something else must end a message that is throttled for ever: how long that has lasted.
LONGEST_THROTTLED = timedelta(days=7)
#: How long the database has for what is asked after the exchange, at most twice: the job's time is not up then.
LOOK_UP_S = 4.0

Found = TypeVar("Found")


class Parcel(msgspec.Struct, frozen=True):
    """What goes to whom."""

    to: Subscriber
    event_type: str
    body: bytes


@handles(DeliverWebhook)
async def deliver_webhook(args: DeliverWebhook, ctx: JobContext) -> dict[str, object] | None:
    """No transaction is open while the endpoint is spoken to."""
    parcel = await ctx.in_thread(lambda tx: _pack(tx, args, ctx))
    if parcel is None:
        return {"code": "ENDPOINT_DELETED"}
    sent_at_ms = int(database_time.now().timestamp() * 1_000)  # subscribers refuse what seems old or to come
    to, message = parcel.to, message_id(args.event_id)
    headers = signed_headers(to.secrets, message, sent_at_ms, parcel.body, parcel.event_type, older=to.older_headers)
    answer = await ctx.http.post(to.url, parcel.body, {**headers, "content-type": "application/json"})
    ctx.detail = _shown(answer)
    verdict = judge(answer, database_time.now())
    ctx.seen = _observation(verdict, answer)
    if isinstance(verdict, DisableEndpoint):
        verdict = await _disable_if_unchanged(verdict, to, ctx)
    elif ctx.seen.park_s is not None and not await _looked_up(
        lambda tx: is_at_version(tx, ctx.tenant_id, to.id, to.version), ctx, otherwise=True
    ):
        ctx.seen, verdict = Observation(None), _without_pause(verdict)  # perhaps another host has asked for it
    if isinstance(verdict, Throttled):
        # Not the age of the event: it may have been held for longer, or be replayed.
        now, why = database_time.now(), verdict.reason
        past = await _looked_up(lambda tx: refusals_of(tx, ctx.job, why), ctx, otherwise=Refusals(0, now))
        if now - past.since > LONGEST_THROTTLED:
            raise PermanentFailure(f"expired: {verdict.reason}")
    return _conclude(verdict, to.retry, ctx.attempt)


def _pack(tx: Connection, args: DeliverWebhook, ctx: JobContext) -> Parcel | None:
    to = subscriber(tx, ctx.secret_key, ctx.tenant_id, args.endpoint_id)
    if to is None:
        return None
    event = get_event(tx, ctx.tenant_id, args.event_id)
    return Parcel(to, event.type, encode_event(event))


async def _disable_if_unchanged(asked: DisableEndpoint, to: Subscriber, ctx: JobContext) -> Verdict:
    """An endpoint that is another one by now, or disabled already, is told again: at the address that it has then."""
    is_disabled = await _looked_up(
        lambda tx: disable_endpoint(tx, ctx.tenant_id, to.id, to.version, asked.reason), ctx, otherwise=False
    )
    return asked if is_disabled or asked.delivered else Retry(None, park=False, reason=asked.reason)


def _without_pause(asked: Verdict) -> Verdict:
    """What is to be told again is told soon: the endpoint is another one by now."""
    match asked:
        case Throttled(reason=reason):
            return Throttled(WAIT_MIN_S, reason)
        case Retry(reason=reason):
            return Retry(None, park=False, reason=reason)
        case _:
            return asked


async def _looked_up(look_up: Callable[[Connection], Found], ctx: JobContext, otherwise: Found) -> Found:
    """What the database says, or `otherwise` when it says nothing in time: a message is not posted again for that."""
    try:
        async with asyncio.timeout(LOOK_UP_S):
            return await ctx.in_thread(look_up)
    except (SQLAlchemyError, TimeoutError) as error:
        ctx.log.warning("webhook.look_up_failed", error=type(error).__name__)
        return otherwise


def _shown(answer: Answer) -> dict[str, object]:
    """What operators and the endpoint's owner see of one exchange."""
    shown = msgspec.structs.asdict(answer)
    return {name: value for name, value in shown.items() if value not in (None, "")}


def _observation(verdict: Verdict, answer: Answer) -> Observation:
    match verdict:
        case Delivered(pause_seconds=pause_s):
            return Observation(True, answer.duration_ms, park_s=pause_s)
        case Throttled(after_seconds=after_s) | Retry(after_seconds=int(after_s), park=True):
            return Observation(False, answer.duration_ms, park_s=after_s)
        case Retry():
            return Observation(False, answer.duration_ms)
        case _:
            return Observation(None)


def _conclude(verdict: Verdict, override: RetryOverride | None, attempt: int) -> dict[str, object] | None:
    """The verdict in the words a handler ends with."""
    match verdict:
        case Delivered() | DisableEndpoint(delivered=True):
            return {"code": "DELIVERED"}
        case AbortMessage(reason=reason) | DisableEndpoint(reason=reason):
            raise PermanentFailure(reason)
        case Throttled(after_seconds=after_s, reason=reason) | Postponed(after_seconds=after_s, reason=reason):
            raise Snooze(after_s, reason)
        case Retry(after_seconds=int(after_s), reason=reason):
            raise RetryLater(after_s, reason) from DeliveryFailed()
        case Retry(reason=reason) if override is not None:
            raise RetryLater(_wait_s(override, attempt), reason) from DeliveryFailed()
        case Retry(reason=reason):
            raise DeliveryFailed(reason)


def _wait_s(override: RetryOverride, attempt: int) -> float:
    backoff = Backoff(override.max_attempts, override.base_seconds, override.cap_seconds)
    return backoff.delay_s(attempt, 0.5 + random() / 2)  # noqa: S311  # jitter


class DeliveryFailed(ExternalFailure):
    """The endpoint did not take the message; the kind's timetable says when to try again."""
