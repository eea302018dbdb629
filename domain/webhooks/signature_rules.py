"""How a webhook proves where it comes from: signed over the exact bytes that are sent, anew on each attempt.

Follows Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md), symmetric
scheme `v1`, plus three older `X-Webhook-*` headers for receivers that know only those. Pure: the clock is an argument.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from uuid import UUID

TEXT_PREFIX = "whsec_"
SECRET_MIN_BYTES = 24
SECRET_MAX_BYTES = 64


def secret_text(key: bytes) -> str:
    """The key as subscribers see it: `whsec_` and padded standard base64. Raises ValueError unless 24 to 64 bytes."""
    return TEXT_PREFIX + base64.b64encode(_sized(key)).decode()


def secret_bytes(text: str) -> bytes:
    """The key behind `whsec_...`; the inverse of secret_text. Raises ValueError, which never repeats the secret.

    Strict on purpose: some receivers' libraries drop URL-safe characters in silence and then verify with another key.
    """
    if not text.startswith(TEXT_PREFIX):
        raise ValueError(f"a webhook secret starts with {TEXT_PREFIX}")
    encoded = text.removeprefix(TEXT_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a webhook secret is standard base64 with padding") from None
    if base64.b64encode(key).decode() != encoded:
        raise ValueError("a webhook secret is standard base64 in its canonical form")
    return _sized(key)


def message_id(event_id: UUID) -> str:
    """The `webhook-id` of an event: the same on every attempt, so receivers can drop what they have already seen."""
    return f"msg_{event_id.hex}"


def signed_headers(
    keys: Sequence[bytes], message_id: str, sent_at_ms: int, body: bytes, event_type: str, *, older: bool = True
) -> dict[str, str]:
    """The headers that sign `body` as sent at `sent_at_ms` (Unix milliseconds of this attempt).

    `keys` are the live keys, newest first: `webhook-signature` holds one token for each, so a receiver may hold any of
    them while keys rotate. The `older` headers have room for one and use the newest. Raises ValueError when there is no
    key, no body, or a value that would make the signed text ambiguous or break out of its header.
    """
    if not keys or not body:
        raise ValueError("a webhook is signed with at least one key over a body that is not empty")
    if "." in message_id or not _plain(message_id) or not _plain(event_type):
        raise ValueError("message id and event type are visible ASCII, and a message id has no dot")
    seconds = sent_at_ms // 1000
    signed = f"{message_id}.{seconds}.".encode() + body
    tokens = ("v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    standard = {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(tokens),
    }
    if not older:
        return standard
    signature = hmac.new(keys[0], f"{sent_at_ms}.".encode() + body, hashlib.sha256)
    return standard | {
        "X-Webhook-Event": event_type,
        "X-Webhook-Timestamp": str(sent_at_ms),
        "X-Webhook-Signature": f"sha256={signature.hexdigest()}",
    }


def _sized(key: bytes) -> bytes:
    if not SECRET_MIN_BYTES <= len(key) <= SECRET_MAX_BYTES:
        raise ValueError(f"a webhook secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes")
    return key


def _plain(text: str) -> bool:
    return bool(text) and all("!" <= letter <= "~" for letter in text)
