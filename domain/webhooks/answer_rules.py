"""What a subscriber's answer means for the message, its endpoint and its lane: same answer, same clock, same verdict.

An answer is what was seen on the wire, or the reason why nothing was; a verdict is what happens next.
"""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

ErrorCode = Literal[
    "dns_error",
    "blocked_address",
    "tls_error",
    "connect_error",
    "connection_lost",
    "timeout_connect",
    "timeout_total",
    "invalid_url",
    "invalid_response",
    "local_error",
]

WAIT_MIN_S = 1
WAIT_MAX_S = 6 * 3600
#: A 429 that does not say for how long.
THROTTLE_DEFAULT_S = 60
#: We ran out of sockets or memory ourselves.
LOCAL_FAULT_S = 5


class Answer(msgspec.Struct, frozen=True):
    """One exchange with an endpoint. `status` is set once headers came; `error` says what went wrong, if anything.

    Both are set when the connection failed or the deadline passed while the body was still coming. Header values are
    those of the reply, `body` is the beginning of its text, `duration_ms` counts from the look-up of the name on.
    """

    status: int | None = None
    error: ErrorCode | None = None
    retry_after: str | None = None
    control: str | None = None
    duration_ms: int = 0
    body: str = ""
    #: Where a 3xx points: shown to the endpoint's owner, never followed.
    location: str | None = None


class Delivered(msgspec.Struct, frozen=True, tag="delivered"):
    """The subscriber has it. `pause_seconds`: it asks for nothing more before that time, so its lane is parked."""

    pause_seconds: int | None = None


class AbortMessage(msgspec.Struct, frozen=True, tag="abort_message"):
    """This message will never be taken; the others of the endpoint are not touched."""

    reason: str


class DisableEndpoint(msgspec.Struct, frozen=True, tag="disable_endpoint"):
    """The endpoint wants no more. `delivered` tells whether it took this message before it said so."""

    reason: str
    delivered: bool = False


class Throttled(msgspec.Struct, frozen=True, tag="throttled"):
    """Too fast: no attempt is used, the lane is parked."""

    after_seconds: int
    reason: str


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """Try again, after `after_seconds` if the endpoint named a time (its lane is parked then), else by the schedule.

    `alert`: its owner has probably misconfigured something and should hear of the first such answer.
    """

    after_seconds: int | None
    park: bool
    reason: str
    alert: bool = False


class Postponed(msgspec.Struct, frozen=True, tag="postponed"):
    """The fault is ours: no attempt is used and the lane keeps its record."""

    after_seconds: int
    reason: str


Verdict = Delivered | AbortMessage | DisableEndpoint | Throttled | Retry | Postponed


def judge(answer: Answer, now: datetime) -> Verdict:
    """What follows from an answer seen at `now` (aware). A 2xx counts only when its reply came to an end.

    Status codes as in Standard Webhooks, "Delivery": 410 ends the subscription, redirects are failures.
    """
    if answer.error == "local_error":
        return Postponed(LOCAL_FAULT_S, answer.error)
    asked = _directives(answer.control)
    return _end(answer, asked) or _wait(answer, asked, now)


def retry_after_seconds(value: str | None, now: datetime) -> int | None:
    """The wait a Retry-After header asks for (RFC 9110, 10.2.3), between 1 s and 6 h; None if it cannot be read."""
    text = (value or "").strip()
    if (seconds := _whole_seconds(text)) is not None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)  # the asctime form of RFC 9110, 5.6.7 names no zone and means UTC
    return _clamped(math.ceil((until - now).total_seconds()))


def _end(answer: Answer, asked: dict[str, str]) -> Verdict | None:
    delivered = answer.error is None and _is_success(answer.status)
    if answer.status == 410 or "disable" in asked:
        return DisableEndpoint("HTTP 410" if answer.status == 410 else "webhook-delivery: disable", delivered)
    if delivered:
        return Delivered(_whole_seconds(asked.get("pause", "")))
    if answer.status in (413, 415):
        return AbortMessage(f"HTTP {answer.status}")
    return AbortMessage("webhook-delivery: abort-message") if "abort-message" in asked else None


def _wait(answer: Answer, asked: dict[str, str], now: datetime) -> Verdict:
    waits = _whole_seconds(asked.get("pause", "")), retry_after_seconds(answer.retry_after, now)
    after = max(filter(None, waits), default=None)
    if answer.status == 429:
        return Throttled(after or THROTTLE_DEFAULT_S, "HTTP 429")
    return Retry(after, park=after is not None, reason=_reason(answer), alert=answer.status in (401, 403, 404))


def _whole_seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return _clamped(int(text)) if len(text) <= 20 else WAIT_MAX_S


def _clamped(seconds: int) -> int:
    return min(max(seconds, WAIT_MIN_S), WAIT_MAX_S)


def _directives(control: str | None) -> dict[str, str]:
    """`webhook-delivery: pause=30, abort-message` by name; unknown names are the future's and harmless."""
    pairs = (word.partition("=") for word in (control or "").lower().split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status <= 299


def _reason(answer: Answer) -> str:
    if answer.status is None or _is_success(answer.status):
        return answer.error or "no answer"
    moved = ": redirects are not followed, update the URL" if 300 <= answer.status <= 399 else ""
    return f"HTTP {answer.status}{moved}"
