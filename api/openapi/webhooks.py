"""The `webhooks:` of the document: what subscribers are sent, one entry for each event of the catalogue."""

import inspect
from typing import Any

from api.openapi.examples import example_of
from api.openapi.schemas import Schema, schemas_of
from domain.event_types import EVENT_TYPES, Event
from domain.webhooks.signature_rules import signed_headers

_EVENT_ID = "019aa3f1-6d2f-7c44-8a51-0e9b7d3c2f18"
_TENANT_ID = "019aa3e0-1111-7222-8333-444455556666"
_BODY = b"{}"
_ABOUT_HEADERS = {
    "webhook-id": "The event's, the same on every attempt: drop what you have seen",
    "webhook-timestamp": "Of this attempt, in Unix seconds: refuse what is more than five minutes off",
    "webhook-signature": (
        "`v1,` and base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`; one for each live secret"
    ),
    "X-Webhook-Event": "The event's type, for receivers that know only the older headers",
    "X-Webhook-Timestamp": "Of this attempt, in Unix milliseconds",
    "X-Webhook-Signature": "`sha256=` and hex of HMAC-SHA256 over `<X-Webhook-Timestamp>.<body>`",
}
_ANSWERS = {
    "2XX": "It was taken; the body is not read",
    "410": "It is not wanted any more: the endpoint is disabled",
    "429": "Later, after `Retry-After`; uses up no attempt",
    "5XX": "It is tried again, over 3.2 days",
}


def webhooks(components: dict[str, Schema]) -> dict[str, Any]:
    """An entry for each type of event; the schemas of their data join the components."""
    kinds = list(EVENT_TYPES.values())
    references, schemas = schemas_of(kinds)
    for schema in schemas.values():
        _amounts_are_numbers(schema)
    components |= schemas
    return {kind.type: {"post": _operation(kind, references[kind], components)} for kind in kinds}


def _operation(kind: type[Event], data: Schema, components: dict[str, Schema]) -> dict[str, Any]:
    schema, about = _envelope(kind, data), inspect.getdoc(kind) or ""
    content = {"schema": schema, "example": _example(kind, schema, components)}
    return {
        "tags": ["Webhooks"],
        "operationId": "on_" + kind.type.replace(".", "_"),
        "summary": about.partition("\n")[0],
        "description": f"{about}\n\nIn any order, and at least once.",
        "parameters": _headers(kind),
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {status: {"description": meaning} for status, meaning in _ANSWERS.items()},
        "security": [],
    }


def _headers(kind: type[Event]) -> list[dict[str, Any]]:
    sent = signed_headers([bytes(32)], f"msg_{_EVENT_ID.replace('-', '')}", 1795167000181, _BODY, kind.type)
    return [
        {
            "name": name,
            "in": "header",
            "required": True,
            "description": _ABOUT_HEADERS[name],
            "schema": {"type": "string"},
            "example": value,
        }
        for name, value in sent.items()
    ]


def _envelope(kind: type[Event], data: Schema) -> Schema:
    """CloudEvents 1.0.2 in structured JSON mode, as `domain/webhooks/cloud_event.py` writes it."""
    uuid, noun = {"type": "string", "format": "uuid"}, kind.type.partition(".")[0]
    members: dict[str, Schema] = {
        "specversion": {"const": "1.0"},
        "id": uuid | {"description": "Of the event", "examples": [_EVENT_ID]},
        "source": {
            "type": "string",
            "format": "uri-reference",
            "pattern": f"^/tenants/[0-9a-f-]{{36}}/{noun}s$",
            "examples": [f"/tenants/{_TENANT_ID}/{noun}s"],
        },
        "type": {"const": kind.type},
        "subject": uuid | {"description": f"The id of the {noun}"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {
            "type": "string",
            "format": "uri",
            "pattern": rf"^urn:longshore:{kind.type.replace('.', '[.]')}:v[0-9]+$",
            "examples": [f"urn:longshore:{kind.type}:v1"],
        },
        "sequence": {
            "type": "string",
            "pattern": "^[0-9]{10}$",
            "description": "Rises in the history of the subject",
            "examples": ["0000000002"],
        },
        "data": data,
    }
    return {"type": "object", "properties": members, "required": list(members)}


def _example(kind: type[Event], schema: Schema, components: dict[str, Schema]) -> Any:
    made = example_of(schema, components)
    made["subject"] = made["data"].get(f"{kind.type.partition('.')[0]}Id", made["subject"])
    return made


def _amounts_are_numbers(schema: Schema) -> None:
    for name, member in schema["properties"].items():
        if member.get("format") == "decimal":
            schema["properties"][name] = {"type": "number"}
