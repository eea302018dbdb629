"""What callers make an answer depend on: how long they would wait (RFC 7240), and what they have seen (RFC 9110)."""

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
from litestar.exceptions import ValidationException
from litestar.params import HeaderParameter

#: Longer waits are cut to this: proxies in between end a silent request after a minute.
LONGEST_WAIT_S = 30

#: Entity tags in quotes, separated by commas, or any (RFC 9110, 8.8.3 and 13.1.1).
_TAGS = r'^[ \t]*(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)[ \t]*$'

Prefer = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer",
        required=False,
        description=f"`wait=N`: answer when there is news, or after N seconds (at most {LONGEST_WAIT_S}), as RFC 7240",
    ),
]
RespondAsync = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer", required=False, description="`respond-async` is what happens in any case, and is echoed"
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", required=False, description="The `ETag` last seen: 304 if it still holds"),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        required=False,
        description="The `ETag` last seen: 412 if it was changed since",
        schema_extra={"pattern": _TAGS},
    ),
]
_WAIT = re.compile(r"\s*wait\s*=\s*(\d{1,9})\s*(?:;.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_NAMED_WAIT = re.compile(r"\s*wait\s*(?:[=;]|$)", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'"([1-9][0-9]{0,9})(?:\.[0-9a-f]{16})?"')
# A comma inside a quoted string is no separator.
_PREFERENCES = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')


def preferred_wait_s(lines: Iterable[str]) -> int | None:
    """Seconds of the first `wait` in these Prefer lines, 30 at most; None if there is none or it is malformed."""
    for preference in _PREFERENCES.findall(",".join(lines)):
        if _NAMED_WAIT.match(preference):
            found = _WAIT.fullmatch(preference)
            return min(int(found[1]), LONGEST_WAIT_S) if found else None
    return None


def prefers_async(lines: Iterable[str]) -> bool:
    """Whether these Prefer lines ask to be answered at once, and not when the work is done."""
    preferences = _PREFERENCES.findall(",".join(lines))
    return any(one.partition(";")[0].strip().lower() == "respond-async" for one in preferences)


def entity_tag(version: int, beside: object = None) -> str:
    """The strong ETag of a row at this version. `beside`: what is shown with it and changes without the row."""
    more = "" if beside is None else f".{hashlib.sha256(msgspec.json.encode(beside)).hexdigest()[:16]}"
    return f'"{version}{more}"'


def versions_seen(if_match: str | None) -> frozenset[int] | None:
    """The versions of the row that an If-Match lets be changed; None = any, whichever it is at.

    A change overwrites the row alone: what an `entity_tag` says beside its version does not stand in the way. Weak
    tags, and those of no row, match nothing (RFC 9110, 13.1.1). Raises ValidationException for what is no tag at all.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    if not re.fullmatch(_TAGS, if_match):
        raise ValidationException(extra=[{"key": "If-Match", "message": 'must be tags in quotes, as in "3", or *'}])
    tags = (_TAG.fullmatch(tag.strip()) for tag in if_match.split(","))
    return frozenset(int(found[1]) for found in tags if found)


def has_seen(if_none_match: str | None, entity_tag: str) -> bool:
    """Whether an If-None-Match names this strong ETag, by weak comparison, or any."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return entity_tag in tags or tags == ["*"]
