"""Every answer has one meaning."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.webhooks.answer_rules import (
    WAIT_MAX_S,
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
    retry_after_seconds,
)

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)


def verdict(status: int | None = None, **seen: str) -> Verdict:
    return judge(Answer(status=status, **seen), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert verdict(status) == Delivered()
    assert verdict(status, retry_after="30") == Delivered()


def test_a_2xx_whose_reply_never_ends_is_not_delivered() -> None:
    assert verdict(200, error="timeout_total") == Retry(None, park=False, reason="timeout_total")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_that_tells_its_owner_what_to_do(status: int) -> None:
    reason = f"HTTP {status}: redirects are not followed, update the URL"
    assert verdict(status, location="https://elsewhere.example/") == Retry(None, park=False, reason=reason)


def test_gone_disables_the_endpoint() -> None:
    assert verdict(410) == DisableEndpoint("HTTP 410")
    assert verdict(410, error="connection_lost") == DisableEndpoint("HTTP 410")


@pytest.mark.parametrize("status", [413, 415])
def test_too_large_and_unsupported_stop_this_message_only(status: int) -> None:
    assert verdict(status, retry_after="30") == AbortMessage(f"HTTP {status}")


@pytest.mark.parametrize(("header", "seconds"), [({}, 60), ({"retry_after": "7"}, 7), ({"retry_after": "soon"}, 60)])
def test_too_many_requests_throttles(header: dict[str, str], seconds: int) -> None:
    assert verdict(429, **header) == Throttled(seconds, "HTTP 429")


@pytest.mark.parametrize("status", [301, 400, 404, 408, 500, 502, 503, 504])
def test_any_failure_with_retry_after_parks_the_lane(status: int) -> None:
    decided = verdict(status, retry_after="120")
    assert isinstance(decided, Retry)
    assert (decided.after_seconds, decided.park) == (120, True)


@pytest.mark.parametrize("status", [100, 101, 400, 402, 408, 418, 500, 503, 599, 999])
def test_other_statuses_retry_by_the_schedule(status: int) -> None:
    assert verdict(status) == Retry(None, park=False, reason=f"HTTP {status}")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_looks_misconfigured_retries_and_alerts(status: int) -> None:
    assert verdict(status) == Retry(None, park=False, reason=f"HTTP {status}", alert=True)


@pytest.mark.parametrize("error", ["dns_error", "blocked_address", "tls_error", "timeout_connect", "connection_lost"])
def test_no_answer_retries_by_the_schedule(error: str) -> None:
    assert verdict(error=error) == Retry(None, park=False, reason=error)


def test_our_own_fault_is_not_held_against_the_endpoint() -> None:
    assert isinstance(verdict(error="local_error"), Postponed)


def test_the_control_header_disables() -> None:
    assert verdict(500, control="disable") == DisableEndpoint("webhook-delivery: disable")
    assert verdict(200, control=" Disable ") == DisableEndpoint("webhook-delivery: disable", delivered=True)


def test_the_control_header_aborts_a_message_that_was_not_taken() -> None:
    assert verdict(500, control="abort-message") == AbortMessage("webhook-delivery: abort-message")
    assert verdict(200, control="abort-message") == Delivered()


def test_the_control_header_pauses_whatever_the_status() -> None:
    assert verdict(200, control="pause=30") == Delivered(pause_seconds=30)
    assert verdict(500, control="pause=30") == Retry(30, park=True, reason="HTTP 500")
    assert verdict(429, control="pause=30") == Throttled(30, "HTTP 429")
    assert verdict(503, control="pause=30", retry_after="90") == Retry(90, park=True, reason="HTTP 503")
    assert verdict(200, control="pause=999999999") == Delivered(pause_seconds=WAIT_MAX_S)


@pytest.mark.parametrize(
    "control", ["", "rate=50", "pause", "pause=", "pause=-1", "pause=soon", "disabled", ",,=", "disable-not"]
)
def test_unknown_directives_change_nothing(control: str) -> None:
    assert verdict(200, control=control) == Delivered()
    assert verdict(500, control=control) == Retry(None, park=False, reason="HTTP 500")


def test_several_directives_are_read_and_the_severest_wins() -> None:
    assert verdict(500, control="pause=30, abort-message") == AbortMessage("webhook-delivery: abort-message")
    assert isinstance(verdict(500, control="rate=5,abort-message,disable"), DisableEndpoint)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", WAIT_MIN_S),
        ("007", 7),
        ("21600", WAIT_MAX_S),
        ("21601", WAIT_MAX_S),
        ("9" * 8000, WAIT_MAX_S),
        ("Fri, 06 Nov 2026 08:51:37 GMT", 120),
        ("Friday, 06-Nov-26 08:51:37 GMT", 120),
        ("Fri Nov  6 08:51:37 2026", 120),
        ("Fri, 06 Nov 2026 08:00:00 GMT", WAIT_MIN_S),
        ("Fri, 06 Nov 1994 08:00:00 GMT", WAIT_MIN_S),
        ("Sat, 07 Nov 2026 08:49:37 GMT", WAIT_MAX_S),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("²", None),
        ("soon", None),
        ("Fri, 99 Nov 2026 08:51:37 GMT", None),
        ("Fri, 06 Nov 2026 08:51:37 +99999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(value: str | None, seconds: int | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_a_wait_until_a_date_is_never_cut_short() -> None:
    assert retry_after_seconds("Fri, 06 Nov 2026 08:51:37 GMT", NOW + timedelta(milliseconds=900)) == 120


@given(st.integers(-100_000, 100_000), st.integers(-14, 14))
def test_a_date_means_the_same_wait_wherever_the_clock_stands(wait: int, zone: int) -> None:
    header = format_datetime((NOW + timedelta(seconds=wait)).astimezone(UTC), usegmt=True)
    expected = min(max(wait, WAIT_MIN_S), WAIT_MAX_S)
    assert retry_after_seconds(header, NOW.astimezone(timezone(timedelta(hours=zone)))) == expected


@given(st.none() | st.integers(0, 999), st.none() | st.text(), st.none() | st.text())
def test_any_answer_gets_a_verdict_and_every_wait_is_bounded(
    status: int | None, retry_after: str | None, control: str | None
) -> None:
    decided = judge(Answer(status=status, retry_after=retry_after, control=control), NOW)
    match decided:
        case Throttled(after_seconds=wait) | Retry(after_seconds=int(wait)) | Delivered(pause_seconds=int(wait)):
            assert WAIT_MIN_S <= wait <= WAIT_MAX_S
    assert isinstance(decided, Delivered) <= (status is not None and 200 <= status <= 299)


@given(st.text(alphabet="MonTueWdFriSat JanFebr0123456789:,-+GMTZ", max_size=40))
def test_no_date_is_too_odd_to_read(text: str) -> None:
    wait = retry_after_seconds(text, NOW)
    assert wait is None or WAIT_MIN_S <= wait <= WAIT_MAX_S
