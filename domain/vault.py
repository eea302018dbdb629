"""Secrets at rest: AES-256-GCM, bound to the place they are stored in: a sealed value cannot be moved elsewhere."""

import base64
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_BYTES = 12  # NIST SP 800-38D: 96 random bits


def seal(key: bytes, secret: bytes, place: str) -> bytes:
    """The secret, encrypted under `key` (32 bytes) for `place`, such as `webhook_endpoints.secrets:<id>`."""
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, secret, place.encode())


def unseal(key: bytes, sealed: bytes, place: str) -> bytes:
    """The secret again. Raises cryptography.exceptions.InvalidTag for another key, another place or changed bytes."""
    if sealed[:1] != _VERSION:
        raise ValueError(f"sealed under unknown version {sealed[:1]!r}")
    nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    return AESGCM(key).decrypt(nonce, body, place.encode())


def seal_text(key: bytes, secret: str, place: str) -> str:
    """As `seal`, for a column of text: base64."""
    return base64.b64encode(seal(key, secret.encode(), place)).decode()


def unseal_text(key: bytes, sealed: str, place: str) -> str:
    """What `seal_text` sealed. Raises as `unseal`."""
    return unseal(key, base64.b64decode(sealed), place).decode()
