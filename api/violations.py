"""The violations of a body's schema, not only the first: msgspec stops at one, callers want the list.

They are looked for until there are enough to tell, and no further: a body may have hundreds of thousands.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, get_args, get_origin

import msgspec
from litestar.exceptions import SerializationException
from msgspec import Struct

from api.bodies import proper_form
from api.phrases import phrase
from api.requests import refuse
from domain.errors import Violation

#: In one answer.
MOST_VIOLATIONS = 100


def decoded(body: bytes, kind: Any) -> Any:
    """The body as a `kind`. Raises BodyInvalid with the first hundred things that are wrong with it,
    SerializationException when it is not JSON at all.

    Nor is it with two members of one name in an object (I-JSON, RFC 7493, 2.3): whoever looked at it on the way may
    have seen the other one. 5.0 is the whole number 5 (JSON Schema 2020-12, 4.2.3).
    """
    try:
        found = _fitting(body, kind)
        _TWINLESS.decode(body.decode())
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SerializationException(_why(error)) from error
    return found


def _why(error: Exception) -> str:
    match error:
        case TwinMembers():
            return str(error)
        case msgspec.DecodeError():
            return f"The body is not well-formed JSON: {str(error).removeprefix('JSON is malformed: ')}."
        case _:
            return "The body is not well-formed JSON."


def collect(kind: Any, value: Any, path: str) -> Iterator[Violation]:
    """The violations of `value` as a `kind`, depth first, each under the path of its field; of a list that is too long
    that only. Lazily.
    """
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _collect_struct(kind, value, path)
    elif (item := _struct_items(kind)) is not None and isinstance(value, list) and not _is_too_long(kind, value):
        entries = (collect(item, entry, f"{path}[{position}]") for position, entry in enumerate(value))
        yield from _or_else(chain.from_iterable(entries), _collect_leaf(kind, value, path))
    else:
        yield from _collect_leaf(kind, value, path)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond all doubles")
    return int(value) if value.is_integer() else value


class TwinMembers(ValueError):
    """Two members of one name."""


_UNTYPED = msgspec.json.Decoder(float_hook=_number)


def _refuse_twins(members: Sequence[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        ((twin, _),) = Counter(name for name, _ in members).most_common(1)
        raise TwinMembers(f"An object of the body has two members of the name {twin[:100]!r}.")


_TWINLESS = json.JSONDecoder(object_pairs_hook=_refuse_twins)


def _fitting(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        found = _UNTYPED.decode(body)
        refuse(*islice(collect(kind, found, ""), MOST_VIOLATIONS))
        return msgspec.convert(found, kind)


def _collect_struct(kind: type[Struct], value: Any, path: str) -> Iterator[Violation]:
    if not isinstance(value, dict):
        yield Violation(path, "must be an object")
        return
    # None found: what the struct says of its fields together.
    yield from _or_else(_collect_members(kind, value, path), _collect_leaf(kind, value, path))


def _collect_members(kind: type[Struct], value: dict[str, Any], path: str) -> Iterator[Violation]:
    fields = msgspec.structs.fields(kind)
    known = {field.encode_name for field in fields}
    for name in value:
        if name not in known:
            yield Violation(_join(path, name), "is not a known field", "UNKNOWN_FIELD")
    for field in fields:
        at = _join(path, field.encode_name)
        if field.encode_name in value:
            yield from collect(field.type, value[field.encode_name], at)
        elif field.required:
            yield Violation(at, "is required", "REQUIRED")


def _or_else(found: Iterator[Violation], otherwise: Iterator[Violation]) -> Iterator[Violation]:
    first = next(found, None)
    if first is None:
        yield from otherwise
    else:
        yield first
        yield from found


def _collect_leaf(kind: Any, value: Any, path: str) -> Iterator[Violation]:
    # Found by the struct, which cannot name its field.
    if isinstance(value, str) and "\x00" in value and proper_form(kind) is None:
        yield Violation(path, "must not contain U+0000")
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        inside, words = phrase(kind, str(error))
        yield Violation(path + inside, words)


def _struct_items(kind: Any) -> type[Struct] | None:
    """The item type of `list[SomeStruct]`, annotated or not."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    if get_origin(kind) is not list:
        return None
    item = get_args(kind)[0]
    return item if isinstance(item, type) and issubclass(item, Struct) else None


def _is_too_long(kind: Any, entries: Sequence[Any]) -> bool:
    longest = [meta.max_length for meta in getattr(kind, "__metadata__", ()) if meta.max_length is not None]
    return any(len(entries) > most for most in longest)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
