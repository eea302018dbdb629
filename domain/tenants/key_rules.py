"""API keys as text: `longshore_live_<8 character id>_<43 character secret><6 character checksum>`. Pure.

256 random bits need no slow hash (OWASP ASVS 5.0, 6.5.2). The checksum lets junk be refused without a look-up; it
authenticates nothing.
"""

import hashlib
import zlib

import msgspec

PREFIX = "longshore_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECK_LENGTH = 8, 43, 6


class KeyParts(msgspec.Struct, frozen=True):
    """The public id of a key, and the SHA-256 of its secret: all that is ever stored."""

    id: str
    secret_hash: bytes


def format_key(id_bytes: bytes, secret_bytes: bytes) -> str:
    """The key made from 6 random bytes for its id and 32 for its secret."""
    body = PREFIX + _base62(id_bytes, _ID_LENGTH)[-_ID_LENGTH:] + "_" + _base62(secret_bytes, _SECRET_LENGTH)
    return body + _checksum(body)


def parse_key(key: str) -> KeyParts | None:
    """The parts of a well-formed key, None for anything else."""
    if len(key) != len(PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH + _CHECK_LENGTH or not key.startswith(PREFIX):
        return None
    body, checksum = key[:-_CHECK_LENGTH], key[-_CHECK_LENGTH:]
    if not key.isascii() or checksum != _checksum(body):
        return None
    key_id, _, secret = body.removeprefix(PREFIX).partition("_")
    return KeyParts(key_id, hashlib.sha256(secret.encode()).digest()) if len(key_id) == _ID_LENGTH else None


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()).to_bytes(4, "big"), _CHECK_LENGTH)


def _base62(data: bytes, length: int) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(length, "0")
