"""Examples of bodies and answers: one story, the order of two mugs, told by whatever has members of these names.

An example is made from its schema, so a new route has one without being told. What a member's name does not say is its
schema's own example, its default, its first value, or the least that its type allows.
"""

from typing import Any

from api.openapi.schemas import Schema, resolve

REQUEST_ID = "01a1fc33-5efc-7084-a313-92be393c2278"
_TENANT = "019aa3e0-1111-7222-8333-444455556666"
_ORDER = "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"
_JOB = "019aa3f1-6c01-7d20-8b5e-3f1d0c9a7e42"
_EVENT = "019aa3f1-6d2f-7c44-8a51-0e9b7d3c2f18"
_PRODUCT = "019aa3e4-2c10-7a6b-9f21-6d0e4b8c1a55"
_REPORT = "019aa3f8-90aa-7e31-b7c4-2f5a1d6e8c03"
_ENDPOINT = "019aa3e6-44b2-7f0d-8c19-7a3e5b1d9f60"
_DEAD_LETTER = "019aa3ff-07c8-7b92-a6d4-1c8e3f5a2b71"
_USER = "019aa3e2-7b10-7c44-a1d5-4e9f0b2c6d83"
_ANY = "019aa3e0-5a3c-7d18-92b7-8e4f6a1c0d39"

#: By the member's name, or by that of its schema and its own; taken where the schema allows it.
_VALUES: dict[str, Any] = {
    "id": _ANY,
    "orderId": _ORDER,
    "jobId": _JOB,
    "productId": _PRODUCT,
    "reportId": _REPORT,
    "endpointId": _ENDPOINT,
    "deadLetterId": _DEAD_LETTER,
    "tenantId": _TENANT,
    "Accepted.order": {"id": _ORDER, "status": "accepted", "createdAt": "2026-11-20T09:30:00.120Z"},
    "OrderView.id": _ORDER,
    "OrderView.status": "confirmed",
    "OrderView.reason": None,
    "JobView.id": _JOB,
    "JobHandle.id": _JOB,
    "JobHandle.state": "queued",
    "JobHandle.done": False,
    "ProductView.id": _PRODUCT,
    "UserView.id": _USER,
    "ReportView.id": _REPORT,
    "EndpointView.id": _ENDPOINT,
    "EndpointView.status": "enabled",
    "CreatedEndpoint.status": "enabled",
    "CreatedEndpoint.id": _ENDPOINT,
    "DeadLetterView.id": _DEAD_LETTER,
    "kind": "inventory.reserve",
    "state": "succeeded",
    "status": "active",
    "Live.status": "ok",
    "Ready.status": "ready",
    "Ready.checks": {"postgresql": "ok", "redis": "ok"},
    "Health.status": "healthy",
    "Health.version": "0.1.0",
    "Health.services": {
        "postgresql": {"status": "healthy", "responseTime": "2ms", "lastCheck": "2026-11-20T09:30:00Z"}
    },
    "Health.database": {"postgresql": "connected", "redis": "connected"},
    "timestamp": "2026-11-20T09:30:00.120Z",
    "done": True,
    "attempts": 1,
    "number": 1,
    "outcome": "succeeded",
    "progress": None,
    "result": None,
    "resultExpiresAt": None,
    "error": None,
    "errorClass": "PermanentFailure",
    "fingerprint": "9f86d081884c7d65",
    "cause": "attempts",
    "resolution": None,
    "resolvedAt": None,
    "replayJobId": None,
    "deadlineAt": None,
    "parentId": None,
    "children": None,
    "createdAt": "2026-11-20T09:30:00.120Z",
    "startedAt": "2026-11-20T09:30:00.131Z",
    "finishedAt": "2026-11-20T09:30:00.149Z",
    "diedAt": "2026-11-20T10:02:11.400Z",
    "customerEmail": "ada@example.com",
    "email": "ada@example.com",
    "password": "nine blue mugs on a shelf",
    "role": "operator",
    "permissions": ["dead_letters:read"],
    "accessToken": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIwMTlhYTNlMCJ9.c2lnbmF0dXJl",
    "refreshToken": "bG9uZ3Nob3JlLXJlZnJlc2g",
    "tokenType": "Bearer",
    "expiresIn": 900,
    "token": "bG9uZ3Nob3JlLXJlc2V0",
    "message": "If somebody here has this address, a mail is on its way.",
    "userId": _USER,
    "lastLoginAt": "2026-11-20T08:15:00.000Z",
    "updatedAt": "2026-11-20T09:30:00.120Z",
    "currency": "USD",
    "sku": "MUG-1",
    "name": "Mug, blue",
    "UserView.name": "Ada Lovelace",
    "NewPerson.name": "Ada Lovelace",
    "PersonChange.name": "Ada Lovelace",
    "quantity": 2,
    "price": 9.5,
    "unitPrice": 9.5,
    "total": 19.0,
    "NewProduct.stock": 120,
    "onHand": 120,
    "reserved": 2,
    "available": 118,
    "delta": 24,
    "version": 3,
    "type": "orders",
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-12-01T00:00:00Z",
    "rows": 1,
    "rowCount": 1,
    "bytes": 164,
    "url": "https://shop.example.com/hooks/longshore",
    "eventTypes": ["order.confirmed", "order.rejected"],
    "retry": {"maxAttempts": 8, "baseSeconds": 5.0, "capSeconds": 3600.0},
    "disabledReason": None,
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "CodeView.code": "INVALID_STATE",
    "CodeView.title": "The present state does not allow this",
    "CodeView.status": 409,
    "CodeView.retryable": False,
    "nextCursor": None,
    "hasMore": False,
}
_PARAMETERS = {
    "Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    "If-Match": '"3"',
    "X-Tenant-ID": _TENANT,
    "If-None-Match": '"3"',
    "Last-Event-ID": "3",
    "Prefer": "wait=10",
    "code": "INVALID_STATE",
}
_JOB_LINKS = {"self": f"/api/v1/jobs/{_JOB}"}
_LINKS: dict[str, dict[str, str]] = {
    "post_order": _JOB_LINKS
    | {
        "events": f"/api/v1/jobs/{_JOB}/events",
        "order": f"/api/v1/orders/{_ORDER}",
        "cancel": f"/api/v1/orders/{_ORDER}/cancel",
    },
    "cancel_order": _JOB_LINKS,
    "complete_order": _JOB_LINKS,
    "post_report": {"self": f"/api/v1/reports/{_REPORT}", "job": f"/api/v1/jobs/{_JOB}"},
    "get_report": {"download": f"/api/v1/reports/{_REPORT}/download"},
}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_CSV = (
    "orderId,createdAt,status,reason,customerEmail,currency,total\r\n"
    f"{_ORDER},2026-11-20T09:30:00.120Z,confirmed,,ada@example.com,USD,19.00\r\n"
)
_STREAM = f'retry: 3000\n\nid: 3\nevent: job.state\ndata: {{"id":"{_JOB}","state":"succeeded"}}\n\n'
#: Answers that are no JSON. What an event of a stream looks like, OpenAPI 3.1 has no words for.
TEXTS: dict[str, dict[str, Any]] = {
    "text/csv": {"schema": {"type": "string"}, "example": _CSV},
    "text/event-stream": {"example": _STREAM},
}

_HEALTH_JSON: dict[str, Any] = {
    "application/health+json": {
        "schema": {
            "type": "object",
            "properties": {
                "status": {"enum": ["pass", "warn", "fail"]},
                "version": {"type": "string"},
                "serviceId": {"type": "string"},
                "checks": {"type": "object"},
            },
            "required": ["status", "version", "serviceId", "checks"],
        },
        "example": {"status": "pass", "version": "0.1.0", "serviceId": "longshore-api", "checks": {}},
    }
}
#: What has another form for those who accept it, by the name of its schema (draft-inadarei-api-health-check-06).
SECOND_FORMS = {"Ready": _HEALTH_JSON, "Health": _HEALTH_JSON}


def example_of(schema: Schema, components: dict[str, Schema], *names: str) -> Any:
    """A value that fits this schema, with the meaning that the first known of these names gives it."""
    schema = resolve(schema, components)
    for name in names:
        if name in _VALUES and _fits(_VALUES[name], schema):
            return _VALUES[name]
    for stated in (schema.get("examples", []), [schema[key] for key in ("const", "default") if key in schema]):
        if stated:
            return stated[0]
    if "anyOf" in schema:
        return example_of(next(one for one in schema["anyOf"] if one != {"type": "null"}), components, *names)
    if "properties" in schema:
        title = schema.get("title", "")
        members = schema["properties"].items()
        # Links are of one operation, not of its schema: `document` adds them.
        return {name: example_of(one, components, f"{title}.{name}", name) for name, one in members if name != "links"}
    if schema.get("type") == "array":
        return [example_of(schema["items"], components)]
    return _plain(schema)


def example_links(operation_id: str) -> dict[str, dict[str, str]]:
    """The `links` of this operation's example, where its answer has some."""
    return {"links": _LINKS[operation_id]} if operation_id in _LINKS else {}


def example_of_parameter(parameter: dict[str, Any]) -> Any:
    """The story's own id for a parameter such as `order_id`; None for one that the story does not name."""
    noun, *rest = parameter["name"].split("_")
    return _VALUES.get(noun + "".join(word.title() for word in rest)) if rest else _PARAMETERS.get(parameter["name"])


def _plain(schema: Schema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") != "string":
        least = schema.get("minimum", 1)
        return {"integer": least, "number": least, "boolean": True}.get(schema.get("type", ""), {})
    match schema.get("format"):
        case "uuid":
            return _ANY
        case "date-time":
            return _VALUES["createdAt"]
        case _:
            return "text".ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]


def _fits(value: Any, schema: Schema) -> bool:
    if "anyOf" in schema:
        return any(_fits(value, one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if "$ref" in schema:
        return isinstance(value, dict)
    return isinstance(value, _TYPES.get(schema.get("type", ""), (object,)))
