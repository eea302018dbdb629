"""What a value must be, in words for callers: msgspec says it in Python's, or quotes a pattern."""

import re
from typing import Any, Literal, get_args, get_origin

from api.bodies import MUST

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
    "datetime": "a time as in RFC 3339",
}
_INVALID = {
    "Invalid UUID": "must be a UUID",
    "Invalid RFC3339 encoded datetime": "must be a time as in RFC 3339",
    "Invalid RFC3339 encoded date": "must be a date as in RFC 3339",
}
_EXPECTED = re.compile(
    r"Expected `(?P<kinds>[^`]*)`(?: (?P<of_length>of length )?(?P<bound>[<>]=?) (?P<limit>\S+)|(?P<more> .*?))?"
    r"(?:, got `[^`]*`)?",
    re.DOTALL,
)
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_UNITS = {"str": ("character", "characters"), "array": ("entry", "entries"), "object": ("member", "members")}
_AT = re.compile(r" - at `\$((?:\[\d+\])*)[^`]*`$")


def phrase(kind: Any, said: str) -> tuple[str, str]:
    """Where inside the value, as `[3]` or "", and what it must be there, from what msgspec said of it as a `kind`."""
    at = _AT.search(said)
    return (at[1] if at else ""), _must(kind, _AT.sub("", said))


def _must(kind: Any, said: str) -> str:
    if words := _words_of(kind):
        return f"must be one of {', '.join(words)}"
    if " regex " in said:
        return _own_words(kind)
    if found := _EXPECTED.fullmatch(said):
        return _expected(found)
    return _INVALID.get(said, said)


def _expected(found: re.Match[str]) -> str:
    first, *_ = kinds = found["kinds"].split(" | ")
    if not found["bound"]:
        return f"must be {' or '.join(_KINDS.get(one, one) for one in kinds)}{found['more'] or ''}"
    bound = f"{_BOUNDS[found['bound']]} {found['limit']}"
    if not found["of_length"]:
        return f"must be {bound}"
    one, many = _UNITS.get(first, ("byte", "bytes"))
    return f"must have {bound} {one if found['limit'] == '1' else many}"


def _own_words(kind: Any) -> str:
    """What the type itself says that its values must be."""
    metas = [meta for one in (kind, *get_args(kind)) for meta in getattr(one, "__metadata__", ())]
    said = [meta.extra[MUST] for meta in metas if meta.extra and MUST in meta.extra]
    return said[0] if said else "is not well-formed"


def _words_of(kind: Any) -> list[str]:
    """Those of a Literal, with or without None beside it."""
    kinds = [kind, *get_args(kind)]
    return [word for one in kinds if get_origin(one) is Literal for word in get_args(one) if isinstance(word, str)]
