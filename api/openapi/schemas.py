"""The schemas of bodies and answers, as msgspec itself says them; Litestar's leave out constraints of list items.

Two things msgspec leaves unsaid are added: which strings are times, and that an answer carries all of its members.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, get_origin

import msgspec
from msgspec import NODEFAULT
from msgspec.inspect import CollectionType, DateTimeType, Field, Metadata, StructType, Type, UnionType, multi_type_info

from api.envelope import Problem

Schema = dict[str, Any]

PREFIX = "#/components/schemas/"
# Python's `$` matches before a newline at the end too, that of JSON Schema does not.
_PYTHON_ONLY = r"(?!\n)"


def schemas_of(kinds: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """A reference for each of these types and those within them, and the components that they lead to."""
    structs = {struct.cls: struct for struct in _structs(multi_type_info(kinds), set())}
    made, components = msgspec.json.schema_components(structs, ref_template=PREFIX + "{name}")
    references = dict(zip(structs, made, strict=True))
    for kind, struct in structs.items():
        _complete(resolve(references[kind], components), struct)
    for schema in components.values():
        _tidy(schema)
    return references, components


def resolve(schema: Schema, components: dict[str, Schema]) -> Schema:
    """What a reference stands for; any other schema is what it is."""
    return components[schema["$ref"].removeprefix(PREFIX)] if "$ref" in schema else schema


def of_parameter(schema: Schema) -> Schema:
    """A schema of a parameter as callers need it: what is not sent is absent, never null."""
    variants = [one for one in schema.pop("oneOf", []) if one != {"type": "null"}]
    if len(variants) == 1:
        schema = {**variants[0], **schema}
    if isinstance(schema.get("type"), list):
        schema["type"] = next(name for name in schema["type"] if name != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    if schema.get("type") == "integer":  # Litestar says 100.0
        schema |= {bound: int(schema[bound]) for bound in ("minimum", "maximum") if bound in schema}
    schema.pop("description", None)  # the parameter's
    _refuse_nul(schema)
    return schema


def _complete(schema: Schema, struct: StructType) -> None:
    members = schema["properties"]
    for field in struct.fields:
        if any(isinstance(one, DateTimeType) for one in _variants(field.type)):
            _is_a_time(members[field.encode_name])
    if struct.forbid_unknown_fields:  # a body
        for member in members.values():
            _refuse_nul(member)
    else:
        omits = (get_origin(struct.cls) or struct.cls).__struct_config__.omit_defaults
        sent = [field for field in struct.fields if _is_always_sent(field, omits=omits)]
        schema["required"] = [field.encode_name for field in sent]
        for field in sent:
            members[field.encode_name].pop("default", None)
    if "success" in members:
        members["success"]["const"] = struct.cls is not Problem


def _is_always_sent(field: Field, *, omits: bool) -> bool:
    has_default = field.default is not NODEFAULT  # to msgspec, UNSET is none
    return field.required or field.default_factory is not NODEFAULT or (has_default and not omits)


def _refuse_nul(schema: Schema) -> None:
    """Text that says nothing else of its characters has no U+0000 at least, which PostgreSQL cannot store."""
    for one in (schema, *schema.get("anyOf", []), schema.get("items", {})):
        if one.get("type") == "string" and not {"pattern", "format", "enum", "const"} & set(one):
            one["pattern"] = r"^[^\u0000]*$"


def _is_a_time(schema: Schema) -> None:
    for one in schema.get("anyOf", [schema]):
        if one.get("type") == "string":
            one["format"] = "date-time"


def _tidy(schema: Schema) -> None:
    if "description" in schema:
        schema["description"] = inspect.cleandoc(schema["description"])
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].removesuffix(_PYTHON_ONLY)
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        schema["type"] = "string"
    for inner in (*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items")):
        if isinstance(inner, dict):
            _tidy(inner)


def _structs(types: Iterable[Type], seen: set[Any]) -> Iterator[StructType]:
    for one in types:
        for variant in _variants(one):
            if isinstance(variant, StructType) and variant.cls not in seen:
                seen.add(variant.cls)
                yield variant
                yield from _structs((field.type for field in variant.fields), seen)
            elif isinstance(variant, CollectionType):
                yield from _structs([variant.item_type], seen)


def _variants(of: Type) -> Iterator[Type]:
    """The type itself, or those that it may be."""
    if isinstance(of, UnionType):
        for one in of.types:
            yield from _variants(one)
    elif isinstance(of, Metadata):
        yield from _variants(of.type)
    else:
        yield of
