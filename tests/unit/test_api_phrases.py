"""Whatever msgspec finds wrong with a value, callers are told what it must be, and where."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from api.bodies import Currency
from api.phrases import phrase

AT_LEAST_ONE = Annotated[list[str], Meta(min_length=1)]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "5", "must be a whole number"),
        (float, "5", "must be a number"),
        (str, 5, "must be a string"),
        (bool, 1, "must be true or false"),
        (list[str], {}, "must be an array"),
        (dict[str, str], [], "must be an object"),
        (int | None, "5", "must be a whole number or null"),
        (UUID, "5", "must be a UUID"),
        (datetime, "yesterday", "must be a time as in RFC 3339"),
        (date, "yesterday", "must be a date as in RFC 3339"),
        (
            Annotated[datetime, Meta(tz=True)],
            "2026-01-01T00:00:00",
            "must be a time as in RFC 3339 with a timezone component",
        ),
        (Annotated[int, Meta(ge=1)], 0, "must be at least 1"),
        (Annotated[int, Meta(le=100)] | None, 101, "must be at most 100"),
        (Annotated[float, Meta(gt=0)], 0.0, "must be more than 0.0"),
        (Annotated[float, Meta(lt=1)], 1.0, "must be less than 1.0"),
        (Annotated[float, Meta(multiple_of=0.5)], 0.7, "must be a number that's a multiple of 0.5"),
        (Annotated[str, Meta(min_length=8)], "short", "must have at least 8 characters"),
        (Annotated[str, Meta(max_length=1)], "ab", "must have at most 1 character"),
        (AT_LEAST_ONE, [], "must have at least 1 entry"),
        (Annotated[list[str], Meta(max_length=2)], ["a", "b", "c"], "must have at most 2 entries"),
        (Annotated[dict[str, str], Meta(max_length=1)], {"a": "b", "c": "d"}, "must have at most 1 member"),
        (Literal["asc", "desc"], "up", "must be one of asc, desc"),
        (Currency, "usd", "must be three capital letters, as in ISO 4217"),
        (Annotated[str, Meta(pattern="^a$")], "b", "is not well-formed"),
    ],
)
def test_it_says_what_a_value_must_be(kind: Any, value: object, words: str) -> None:
    assert phrase(kind, said_of(kind, value)) == ("", words)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (AT_LEAST_ONE, ["a", 5], ("[1]", "must be a string")),
        (list[list[int]], [[], [1, "2"]], ("[1][1]", "must be a whole number")),
        (dict[str, str], {"a": 5}, ("", "must be a string")),
    ],
)
def test_it_says_which_entry_of_an_array_is_wrong(kind: Any, value: object, found: tuple[str, str]) -> None:
    assert phrase(kind, said_of(kind, value)) == found


def test_what_it_does_not_know_is_left_as_it_is() -> None:
    assert phrase(str, "Something else") == ("", "Something else")


def said_of(kind: Any, value: object) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind)
    return str(caught.value)
