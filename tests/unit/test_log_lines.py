"""Every event becomes one line of JSON in ASCII, whatever it holds."""

import json
from datetime import UTC, datetime
from math import nan
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ops.telemetry import json_line

WORDS = st.text() | st.sampled_from(["half \ud83d", "\udea2 half", "whole \U0001f6a2"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS, st.lists)


@given(st.dictionaries(WORDS, VALUES))
def test_a_line_says_what_the_event_said_in_ascii_half_characters_and_huge_numbers_too(
    event: dict[str, object],
) -> None:
    line = json_line(event, repr)
    assert json.loads(line) == event
    assert line.isascii()
    assert "\n" not in line


def test_what_json_has_no_word_for_is_written_as_text() -> None:
    job_id, moment = UUID(int=7), datetime(2026, 1, 2, tzinfo=UTC)
    said = json.loads(json_line({"job_id": job_id, "at": moment, "error": ValueError("no"), "ratio": nan}, repr))
    assert said == {"job_id": str(job_id), "at": "2026-01-02T00:00:00Z", "error": "ValueError('no')", "ratio": None}
