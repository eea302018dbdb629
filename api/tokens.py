"""Access tokens: JWTs (RFC 7519) that this installation signs with Ed25519 (RFC 8037) and reads again. No others.

The header of a token decides nothing: it may name one of our keys, and has no other members than those that we write
(RFC 8725, section 3).
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.errors import TokenExpired, Unauthenticated
from domain.tenants.log_ins import Person

ALGORITHM, TYPE = "EdDSA", "at+jwt"  # RFC 9068, section 2.1: no other sort of token is taken for one of these
ISSUER, AUDIENCE = "longshore", "longshore-api"
#: Clocks of our own machines differ by no more than this.
LEEWAY_S = 5
_LONGEST = 4096
_HEADER = {"alg", "typ", "kid"}


class Claims(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a token says. `sid`: the family of refresh tokens, that is the log-in, which it belongs to."""

    sub: UUID
    sid: UUID
    email: str
    tenant_id: UUID
    role: str
    permissions: list[str]
    iss: str = ISSUER
    aud: str = AUDIENCE
    iat: Annotated[int, msgspec.Meta(ge=0)]
    exp: Annotated[int, msgspec.Meta(ge=0)]


class AccessTokens:
    """Signs with the first of the keys, reads what any of them has signed."""

    def __init__(self, seeds: Sequence[bytes], lifetime: timedelta) -> None:
        keys = [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]
        self._known = {key_id(key.public_key()): key.public_key() for key in keys}
        self._signer, self._kid, self._lifetime = keys[0], key_id(keys[0].public_key()), lifetime

    def sign(self, person: Person, family: UUID, ends_at: datetime) -> tuple[str, int]:
        """A token, and for how many seconds it is good: never longer than the log-in, which `ends_at` then."""
        now = int(time.time())
        expires = min(now + int(self._lifetime.total_seconds()), int(ends_at.timestamp()))
        claims = Claims(
            sub=person.id,
            sid=family,
            email=person.email,
            tenant_id=person.tenant_id,
            role=person.role,
            permissions=sorted(person.permissions),
            iat=now,
            exp=expires,
        )
        header = {"typ": TYPE, "kid": self._kid}
        token = jwt.encode(msgspec.to_builtins(claims), self._signer, algorithm=ALGORITHM, headers=header)
        return token, expires - now

    def read(self, token: str) -> Claims:
        """What the token says. Raises TokenExpired for one of ours that was good once, else Unauthenticated."""
        try:
            return msgspec.convert(self._decoded(token), Claims)
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError):
            raise Unauthenticated from None

    def _decoded(self, token: str) -> Any:
        if len(token) > _LONGEST:
            raise jwt.DecodeError
        header = jwt.get_unverified_header(token)
        key = self._known.get(str(header.get("kid")))
        if key is None or set(header) != _HEADER or (header["alg"], header["typ"]) != (ALGORITHM, TYPE):
            raise jwt.InvalidTokenError
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=LEEWAY_S,
            options={"strict_aud": True, "require": list(_REQUIRED)},
        )


_REQUIRED = tuple(field.encode_name for field in msgspec.structs.fields(Claims))


def key_id(key: Ed25519PublicKey) -> str:
    """The thumbprint of the key as a JWK (RFC 7638)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
    return _base64url(hashlib.sha256(msgspec.json.encode(members)).digest())


def derived_seed(secret_key: bytes) -> bytes:
    """For an installation that was given no key of its own: one that the secret key does not tell (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"longshore access tokens").derive(secret_key)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
