"""What the log of a run tells the checker: counts, late answers, and secrets that should not stand there."""

import json
from pathlib import Path

import pytest

from ops.chaos.said import Said, what_was_said
from ops.chaos.sometimes import SOMETIMES

KEY = "longshore_live_abc"


def line(process: str, event: str, **facts: object) -> str:
    return f"{process:<11} | {json.dumps({**facts, 'event': event}, separators=(',', ':'))}\n"


def order(duration_ms: float, status: int = 202) -> str:
    return line("web-0", "http_request", method="POST", route="/api/v1/orders", statusCode=status, duration=duration_ms)


@pytest.fixture
def said(tmp_path: Path) -> Said:
    log = tmp_path / "system.log"
    log.write_text(
        order(12.5)
        + order(4_600)
        + order(9_000, status=503)
        + line("relay-1", "outbox.rung", rows=3)
        + line("relay-1", "outbox.rung_again", queue="email", rows=7)
        + line("worker-0", "finish.refused", jobs=2)
        + line("worker-0", "transaction.retried", sqlstate="40P01")
        + line("worker-1", "recorder.waiting", jobs=9, error="DeadlockDetected")
        + "supervisor  | relay-0 was killed by SIGKILL; it starts again in 0.5 s\n"
        + "supervisor  | relay-1 was killed by SIGKILL; it starts again in 0.5 s\n"
        + 'worker-1    | {"event":"finish.refused","jo'
        + "\nTraceback: nobody@tenant-0.example.com\n"
        + line("worker-2", "job.errored", error=KEY)
    )
    return what_was_said(log, [KEY, "whsec_of_nobody"])


def test_events_are_counted_with_what_they_carried(said: Said) -> None:
    assert said.events["finish.refused"] == 2
    assert said.events["finish.refused in all"] == 2
    assert said.events["outbox.rung_again in all"] == 7
    assert said.events["transaction.retried 40P01"] == said.events["recorder.waiting DeadlockDetected"] == 1


def test_a_202_that_came_too_late_is_named_and_a_late_503_is_not(said: Said) -> None:
    assert said.late == ["an order was answered 202 after 4.6 s"]
    assert said.slowest_accepted_s == 4.6


def test_lines_that_tell_a_secret_or_an_address_are_named_without_it(said: Said) -> None:
    assert said.leaks == ["Traceback: in plain words", "worker-2 job.errored"]


def test_only_the_relay_that_rang_last_died_leading(said: Said) -> None:
    assert said.relays_died_leading == 1


def test_the_page_names_every_event_that_must_have_taken_place() -> None:
    page = (Path(__file__).parents[2] / "docs" / "chaos.md").read_text()
    assert [one.name for one in SOMETIMES if f"| {one.name} | {one.id or '-'} |\n" not in page] == []
    assert len({one.name for one in SOMETIMES}) == len(SOMETIMES)
