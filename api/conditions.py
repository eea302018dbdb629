"""What callers make an answer depend on: how long they would wait (RFC 7240), and what they have seen (RFC 9110)."""

import re
from collections.abc import Iterable
from typing import Annotated

from litestar.params import HeaderParameter

#: Longer waits are cut to this: proxies in between end a silent request after a minute.
LONGEST_WAIT_S = 30

Prefer = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer",
        required=False,
        description=f"`wait=N`: answer when there is news, or after N seconds (at most {LONGEST_WAIT_S}), as RFC 7240",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", required=False, description="The `ETag` last seen: 304 if it still holds"),
]
_WAIT = re.compile(r"\s*wait\s*=\s*(\d{1,9})\s*(?:;.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_NAMED_WAIT = re.compile(r"\s*wait\s*(?:[=;]|$)", re.IGNORECASE | re.ASCII)
# A comma inside a quoted string is no separator.
_PREFERENCES = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')


def preferred_wait_s(lines: Iterable[str]) -> int | None:
    """Seconds of the first `wait` in these Prefer lines, 30 at most; None if there is none or it is malformed."""
    for preference in _PREFERENCES.findall(",".join(lines)):
        if _NAMED_WAIT.match(preference):
            found = _WAIT.fullmatch(preference)
            return min(int(found[1]), LONGEST_WAIT_S) if found else None
    return None


def has_seen(if_none_match: str | None, entity_tag: str) -> bool:
    """Whether an If-None-Match names this strong ETag, by weak comparison, or any."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return entity_tag in tags or tags == ["*"]
