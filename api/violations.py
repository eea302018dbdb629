"""Every violation of a body's schema, not only the first: msgspec stops at one, callers want the list."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import msgspec
from litestar.exceptions import SerializationException
from msgspec import Struct

from api.bodies import proper_form
from api.phrases import phrase
from api.requests import refuse
from domain.errors import Violation


def decoded(body: bytes, kind: Any) -> Any:
    """The body as a `kind`. Raises BodyInvalid with all that is wrong with it, SerializationException when it is not
    JSON at all.

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
    """The violations of `value` as a `kind`, depth first, each under the path of its field."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _collect_struct(kind, value, path)
    elif (item := _struct_items(kind)) is not None and isinstance(value, list):
        inner = [found for position, entry in enumerate(value) for found in collect(item, entry, f"{path}[{position}]")]
        yield from inner or _collect_leaf(kind, value, path)
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
        refuse(*collect(kind, found, ""))
        return msgspec.convert(found, kind)


def _collect_struct(kind: type[Struct], value: Any, path: str) -> Iterator[Violation]:
    if not isinstance(value, dict):
        yield Violation(path, "must be an object")
        return
    fields = msgspec.structs.fields(kind)
    found = False
    for name in sorted(set(value) - {field.encode_name for field in fields}):
        found = True
        yield Violation(_join(path, name), "is not a known field", "UNKNOWN_FIELD")
    for field in fields:
        at = _join(path, field.encode_name)
        if field.encode_name in value:
            for violation in collect(field.type, value[field.encode_name], at):
                found = True
                yield violation
        elif field.required:
            found = True
            yield Violation(at, "is required", "REQUIRED")
    if not found:
        yield from _collect_leaf(kind, value, path)  # what the struct says of its fields together


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


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
