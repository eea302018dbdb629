"""The body of a webhook: a CloudEvents 1.0.2 envelope in structured JSON mode, the same bytes on every attempt."""

from typing import Any

import msgspec
from sqlalchemy import Row

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode_event(event: Row[Any]) -> bytes:
    """The envelope of an `events` row. Attribute names are CloudEvents' own; the members of `data` are ours."""
    noun = event.type.split(".")[0]
    envelope = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"/tenants/{event.tenant_id}/{noun}s",
        "type": event.type,
        "subject": str(event.subject),
        "time": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": f"urn:longshore:{event.type}:v{event.version}",
        "sequence": f"{event.sequence:010d}",  # CloudEvents' sequence extension compares as text
        "data": event.data,
    }
    return _ENCODER.encode(envelope)
