"""The fingerprint of an error: one per fault, whatever ids and numbers its text carries."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.fingerprint_rules import fingerprint, normalised

TRACE = """Traceback (most recent call last):
  File "/srv/app/workers/executor.py", line 131, in _run_plain
  File "/srv/app/workers/handlers/email.py", line 17, in mail_order_confirmed
  File "/srv/app/workers/clients/mailer.py", line {line}, in send
OSError: the disk is full
"""


def of(message: str = "no such mailbox", *, kind: str = "email.x", error: str = "OSError", trace: str = "") -> str:
    return fingerprint(kind, error, message, trace)


@given(st.uuids(), st.uuids())
def test_ids_do_not_count(one: UUID, other: UUID) -> None:
    assert of(f"order {one} is gone") == of(f"order {other} is gone")


@given(st.integers(0), st.integers(0))
def test_numbers_do_not_count(one: int, other: int) -> None:
    assert of(f"row {one} of {other}") == of(f"row {other} of {one}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no key 'sku'", "no key 'name'"),
        ('no key "sku"', 'no key "name"'),
        ("at 0x7f00aa", "at 0x7F11BB"),
    ],
)
def test_quoted_words_and_addresses_do_not_count(one: str, other: str) -> None:
    assert of(one) == of(other)


def test_line_numbers_and_folders_do_not_count() -> None:
    moved = TRACE.replace("/srv/app", "/opt/other")
    assert of(trace=TRACE.format(line=40)) == of(trace=moved.format(line=41))


def test_the_kind_the_class_the_words_and_the_place_do_count() -> None:
    elsewhere = TRACE.replace("in send", "in _open")
    prints = [
        of(),
        of(kind="email.y"),
        of(error="KeyError"),
        of("mailbox is full"),
        of(trace=TRACE.format(line=40)),
        of(trace=elsewhere.format(line=40)),
    ]
    assert len(set(prints)) == len(prints)


def test_only_the_innermost_frames_count() -> None:
    outer = TRACE.replace("Traceback (most recent call last):", 'Traceback:\n  File "/srv/a.py", line 1, in main')
    assert of(trace=outer.format(line=1)) == of(trace=TRACE.format(line=1))


@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_at_all_has_a_short_printable_fingerprint(kind: str, error: str, message: str, trace: str) -> None:
    assert set(fingerprint(kind, error, message, trace)) <= set("0123456789abcdef")
    assert len(fingerprint(kind, error, message, trace)) == 12


def test_broken_unicode_has_one_too() -> None:
    assert len(of("\ud800 \x00")) == 12


def test_a_giant_message_is_cut() -> None:
    assert len(normalised("x" * 1_000_000)) == 500
