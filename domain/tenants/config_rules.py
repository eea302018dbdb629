"""What a tenant can be configured with, key by key: what a value must be, and what a flag says. Pure.

A flag is on, off, or on for a share of its subjects: the same ones each time, and those of a smaller share among those
of a larger.
"""

import hashlib
import re
from collections.abc import Callable, Mapping

import msgspec

Value = str | bool | int

_MAILBOX = re.compile(r"[^@\s<>,;:\"]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_SHARE = re.compile(r"(100|[0-9]{1,2})%")
_WORDS: Mapping[str, Value] = {"on": True, "off": False}


class Key(msgspec.Struct, frozen=True):
    """`read` makes a value of what an operator wrote, or raises ValueError saying what it must be."""

    means: str
    read: Callable[[str], Value]
    default: Value | None = None


def _mailbox(text: str) -> Value:
    if not _MAILBOX.fullmatch(text):
        raise ValueError("must be an e-mail address")
    return text


def _flag(text: str) -> Value:
    """`on`, `off`, or a share such as 25%."""
    if text in _WORDS:
        return _WORDS[text]
    if not _SHARE.fullmatch(text):
        raise ValueError("must be on, off, or a share such as 25%")
    return int(text[:-1])


MAIL_FROM = "mail.from"
LEGACY_WEBHOOK_HEADERS = "flags.webhooks.legacy-headers"

KEYS: Mapping[str, Key] = {
    MAIL_FROM: Key("The sender of the mails to its customers; else MAIL_FROM.", _mailbox),
    LEGACY_WEBHOOK_HEADERS: Key(
        "Webhooks carry the older X-Webhook-* headers beside the standard ones; a share is of its endpoints.",
        _flag,
        default=True,
    ),
}


def is_on(flag: str, value: Value | None, subject: object) -> bool:
    """Whether this flag is on for this subject. None = nobody has set it."""
    said = KEYS[flag].default if value is None else value
    if isinstance(said, bool) or not isinstance(said, int):
        return said is True
    drawn = hashlib.sha256(f"{flag}\n{subject}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % 100 < said
