"""Prefer, If-None-Match, If-Match and Accept, read as RFC 7240 and RFC 9110 say."""

import pytest
from litestar.exceptions import HTTPException, ValidationException

from api.conditions import LONGEST_WAIT_S, entity_tag, has_seen, preferred_wait_s, prefers_async, versions_seen
from api.media_type import JSON, refuse_unless_accepted


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["wait=0"], 0),
        (["Wait = 7"], 7),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10; foo=bar"], 10),
        (["wait=3, wait=9"], 3),  # only the first counts
        (["wait=x, wait=9"], None),
        (["wait=999999999"], LONGEST_WAIT_S),
        (["wait=99999999999999999999"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (['wait="5"'], None),
        (["wait=٣"], None),
        (["waiting=5"], None),
        (['note="a, wait=5"'], None),
        (['note="a \\" b", wait=5'], 5),
        (['note="never closed, wait=5'], None),
        ([", ,wait=4,"], 4),
    ],
)
def test_the_first_well_formed_wait_counts_up_to_the_longest(lines: list[str], seconds: int | None) -> None:
    assert preferred_wait_s(lines) == seconds


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        (None, False),
        ("", False),
        ('"3"', True),
        ('W/"3"', True),
        ('"2", "3"', True),
        ("*", True),
        ("3", False),
        ('"33"', False),
        ('"2", *', False),
    ],
)
def test_an_entity_tag_is_compared_weakly(header: str | None, seen: bool) -> None:
    assert has_seen(header, '"3"') == seen


def test_an_entity_tag_says_its_version_and_what_is_shown_beside_the_row() -> None:
    assert entity_tag(3) == '"3"'
    tags = {entity_tag(3, [1, 0]), entity_tag(3, [1, 1]), entity_tag(4, [1, 0]), entity_tag(3, [1, 0])}
    assert len(tags) == 3
    assert {version for tag in tags for version in versions_seen(tag) or ()} == {3, 4}


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        (None, None),
        (" * ", None),
        ('"3"', {3}),
        ('"3.0123456789abcdef"', {3}),
        ('"3" , "12"', {3, 12}),
        ('W/"3"', set()),
        ('W/"3", "4"', {4}),
        ('"0"', set()),
        ('"3x"', set()),
        ('"-3"', set()),
        ('"3.x"', set()),
        ('"99999999999"', set()),
    ],
)
def test_what_may_be_changed_is_compared_strongly(header: str | None, versions: set[int] | None) -> None:
    assert versions_seen(header) == versions


@pytest.mark.parametrize("header", ["3", "", "3, 4", '"3" "4"', '"3', '"\u0663"', '"3", *', '"3",', 'w/"3"', '"3"\n'])
def test_what_is_no_list_of_tags_is_refused(header: str) -> None:
    with pytest.raises(ValidationException):
        versions_seen(header)


@pytest.mark.parametrize(
    ("lines", "is_asked_for"),
    [
        ([], False),
        (["respond-async"], True),
        (["wait=5, Respond-Async ; x=1"], True),
        (["wait=5", "respond-async"], True),
        (["respond-asynchronously"], False),
        (['note="respond-async"'], False),
    ],
)
def test_a_wish_to_be_answered_at_once_is_heard(lines: list[str], is_asked_for: bool) -> None:
    assert prefers_async(lines) == is_asked_for


@pytest.mark.parametrize(
    ("accept", "given", "is_admitted"),
    [
        ("", JSON, True),
        ("*/*", JSON, True),
        ("application/json", JSON, True),
        ("Application/JSON;charset=utf-8", JSON, True),
        ("application/vnd.longshore.v1+json", JSON, True),
        ("application/vnd.longshore.v2+json", JSON, False),
        ("application/problem+json", JSON, True),
        ("application/*;q=0.1", JSON, True),
        ("text/html, */*;q=0.8", JSON, True),
        ("text/html", JSON, False),
        ("application/xml, text/csv", JSON, False),
        ("*/*;q=0", JSON, False),
        ("text/*, */*;q=0.000", JSON, False),
        ("application/json;q=0, application/*", JSON, True),  # as problem+json and by the vendor's name
        ("application/*;q=0, */*", JSON, False),
        ("application/json, */*;q=0", JSON, True),
        ("nonsense", JSON, False),
        (",", JSON, False),
        ("text/csv", "text/csv", True),
        ("text/*", "text/csv", True),
        ("application/json", "text/csv", False),
        ("application/json", "text/event-stream", False),
        ("text/event-stream, application/json", "text/event-stream", True),
    ],
)
def test_what_cannot_be_taken_is_refused(accept: str, given: str, is_admitted: bool) -> None:
    if is_admitted:
        refuse_unless_accepted(accept, given)
        return
    with pytest.raises(HTTPException) as refused:
        refuse_unless_accepted(accept, given)
    assert refused.value.status_code == 406
