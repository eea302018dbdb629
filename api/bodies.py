"""What every request body has in common: camelCase, no unknown fields, and text that can be stored.

Free text loses the space at its ends, and U+0000 with all other control characters; addresses become lower case. In
identifiers U+0000, which PostgreSQL's text refuses, is a mistake.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Struct

from domain.tenants.passwords import LONGEST, SHORTEST

#: Where a type says in words what a value of it must be; msgspec would only quote its pattern.
MUST = "must"
#: Where a type says how a value of it is written properly, which is what everybody behind here sees.
PROPER = "proper"

# Not tab, newline and carriage return, which are space.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _visible(text: str) -> str:
    return _CONTROL.sub("", text).strip()


def _lower(text: str) -> str:
    return text.strip().lower()


# `$` alone also matches before a newline at the end, in Python though not in JSON Schema.
Sku = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)",
        description="Stock keeping unit",
        examples=["MUG-1"],
        extra={MUST: "must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"},
    ),
]
Currency = Annotated[
    str,
    Meta(
        pattern=r"^[A-Z]{3}$(?!\n)",
        description="ISO 4217",
        examples=["USD"],
        extra={MUST: "must be three capital letters, as in ISO 4217"},
    ),
]
Email = Annotated[
    str,
    Meta(
        # One mailbox, as HTML's e-mail field takes it (WHATWG HTML, 4.10.5.1.5), under a domain with a dot.
        pattern=r"^[ \t]*[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+[ \t]*$(?!\n)",
        max_length=254,
        examples=["ada@example.com"],
        extra={MUST: "must be an e-mail address", PROPER: _lower},
    ),
]
_SEEN = r"[^\s\x00-\x1f\x7f-\x9f]"
_NAME = {MUST: "must have a character that can be seen", PROPER: _visible}
Name = Annotated[str, Meta(pattern=_SEEN, max_length=200, examples=["Mug"], extra=_NAME)]
PersonName = Annotated[str, Meta(pattern=_SEEN, max_length=100, examples=["Ada"], extra=_NAME)]
#: In characters, of whatever sort (NIST SP 800-63B, 3.1.1.2).
NewPassword = Annotated[str, Meta(min_length=SHORTEST, max_length=LONGEST)]
#: One that may be wrong: no other than a new one can be right.
Password = Annotated[str, Meta(min_length=1, max_length=LONGEST)]


class Body(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The base of every request body."""

    def __post_init__(self) -> None:
        for name, written, proper in _fields(type(self)):
            value = getattr(self, name)
            if not isinstance(value, str):
                continue
            if proper is not None:
                msgspec.structs.force_setattr(self, name, proper(value))
            elif "\x00" in value:
                raise ValueError(f"{written} must not contain U+0000")


def proper_form(kind: Any) -> Callable[[str], str] | None:
    """How a value of this type is written properly, if the type, or one of its union, says so."""
    for one in (kind, *get_args(kind)):
        for meta in getattr(one, "__metadata__", ()):
            if meta.extra and PROPER in meta.extra:
                found: Callable[[str], str] = meta.extra[PROPER]
                return found
    return None


@cache  # asked for every line of every order
def _fields(kind: type[Body]) -> list[tuple[str, str, Callable[[str], str] | None]]:
    fields = msgspec.structs.fields(kind)
    return [(field.name, field.encode_name, proper_form(field.type)) for field in fields if _may_be_text(field.type)]


def _may_be_text(kind: Any) -> bool:
    return kind in (str, Any) or any(_may_be_text(one) for one in get_args(kind))
