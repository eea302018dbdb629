"""What every request body has in common: camelCase, no unknown fields, no U+0000, which PostgreSQL's text refuses."""

from typing import Annotated

from msgspec import Meta, Struct

from domain.tenants.passwords import LONGEST, SHORTEST

#: Where a type says in words what a value of it must be; msgspec would only quote its pattern.
MUST = "must"

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
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$(?!\n)",
        max_length=254,
        examples=["ada@example.com"],
        extra={MUST: "must be an e-mail address"},
    ),
]
# As Email; what a person types is trimmed and put into lower case, and the spaces around it are no mistake of his.
Address = Annotated[
    str,
    Meta(
        pattern=r"^\s*[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+\s*$",
        max_length=254,
        examples=["ada@example.com"],
        extra={MUST: "must be an e-mail address"},
    ),
]
#: In characters, of whatever sort (NIST SP 800-63B, 3.1.1.2).
NewPassword = Annotated[str, Meta(min_length=SHORTEST, max_length=LONGEST)]
#: One that may be wrong: no other than a new one can be right.
Password = Annotated[str, Meta(min_length=1, max_length=LONGEST)]
PersonName = Annotated[str, Meta(min_length=1, max_length=100)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Body(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The base of every request body."""

    def __post_init__(self) -> None:
        # Runs for every line of every order: msgspec.structs.fields() would resolve the types anew each time.
        for name, written in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value = getattr(self, name)
            if isinstance(value, str) and "\x00" in value:
                raise ValueError(f"{written} must not contain U+0000")
