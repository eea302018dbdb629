"""Access tokens: what we signed is read again while it is good; whatever else looks like one is refused, by name."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.tokens import AUDIENCE, ISSUER, LEEWAY_S, AccessTokens, Claims, derived_seed, key_id
from domain.errors import LongshoreError, TokenExpired, Unauthenticated
from domain.ids import new_id
from domain.tenants.log_ins import Person

OLD, NEW, FOREIGN = b"o" * 32, b"n" * 32, b"f" * 32
PERSON = Person(new_id(), new_id(), "ada@example.com", "viewer", frozenset({"orders:read", "jobs:read"}), 100)
FAMILY = new_id()
MINUTES = timedelta(minutes=15)
TOKENS = AccessTokens([NEW], MINUTES)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(days=7)


def signed(seed: bytes = NEW, header: dict[str, Any] | None = None, without: str = "", **changes: Any) -> str:
    """A token as we would sign it, but for these changes."""
    claims = {**_claims(), **changes}
    claims.pop(without, None)
    names = {"typ": "at+jwt", "kid": _kid(seed), "alg": "EdDSA", **(header or {})}
    return _sealed(names, claims, lambda text: Ed25519PrivateKey.from_private_bytes(seed).sign(text))


def _claims() -> dict[str, Any]:
    now = int(time.time())
    claims = Claims(
        sub=PERSON.id, sid=FAMILY, email=PERSON.email, tenant_id=PERSON.tenant_id, role="viewer",
        permissions=sorted(PERSON.permissions), iat=now, exp=now + 900,
    )  # fmt: skip
    found: dict[str, Any] = msgspec.to_builtins(claims)
    return found


def _sealed(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{_base64url(sign(text.encode()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _public(seed: bytes) -> Any:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key()


def _kid(seed: bytes) -> str:
    return key_id(_public(seed))


def refused(token: str, tokens: AccessTokens = TOKENS) -> type[LongshoreError]:
    with pytest.raises(LongshoreError) as error:
        tokens.read(token)
    assert (str(error.value), error.value.facts) == (str(type(error.value)()), {}), "no reason is told"
    return type(error.value)


def test_a_token_says_who_and_until_when_under_the_names_of_the_contract() -> None:
    token, expires_in = TOKENS.sign(PERSON, FAMILY, later())
    claims = jwt.decode(token, options={"verify_signature": False})
    assert expires_in == claims["exp"] - claims["iat"] == 900
    assert claims.keys() == {
        "sub", "email", "tenantId", "role", "permissions", "iat", "exp", "sid", "iss", "aud"
    }  # fmt: skip
    assert (claims["sub"], claims["tenantId"], claims["sid"]) == (str(PERSON.id), str(PERSON.tenant_id), str(FAMILY))
    assert (claims["iss"], claims["aud"], claims["permissions"]) == (ISSUER, AUDIENCE, ["jobs:read", "orders:read"])
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": _kid(NEW)}
    assert TOKENS.read(token).sub == PERSON.id


def test_the_forger_of_these_tests_makes_good_tokens_as_long_as_he_changes_nothing() -> None:
    assert TOKENS.read(signed()).sid == FAMILY


def test_no_token_outlives_its_log_in() -> None:
    _, expires_in = TOKENS.sign(PERSON, FAMILY, datetime.now(UTC) + timedelta(seconds=100))
    assert 95 <= expires_in <= 100


def test_a_rotated_key_still_verifies_and_one_that_was_removed_does_not() -> None:
    before, _ = AccessTokens([OLD], MINUTES).sign(PERSON, FAMILY, later())
    rotated = AccessTokens([NEW, OLD], MINUTES)
    assert rotated.read(before).sub == PERSON.id
    after, _ = rotated.sign(PERSON, FAMILY, later())
    assert jwt.get_unverified_header(after)["kid"] == _kid(NEW)
    assert refused(before, AccessTokens([NEW], MINUTES)) is Unauthenticated


def test_a_token_of_another_installation_is_refused() -> None:
    assert refused(signed(FOREIGN)) is Unauthenticated
    assert refused(signed(FOREIGN, {"kid": _kid(NEW)})) is Unauthenticated


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_alg_none_is_refused(algorithm: str) -> None:
    header = {"alg": algorithm, "typ": "at+jwt", "kid": _kid(NEW)}
    assert refused(_sealed(header, _claims(), lambda _: b"")) is Unauthenticated
    assert refused(signed(header={"alg": algorithm})) is Unauthenticated


@pytest.mark.parametrize("encoding", ["raw", "pem", "der", "jwk"])
def test_hs256_with_the_public_key_for_a_secret_is_refused(encoding: str) -> None:
    secret = {
        "raw": _public(NEW).public_bytes_raw(),
        "pem": _public(NEW).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": _public(NEW).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps({"kty": "OKP", "crv": "Ed25519", "x": _base64url(_public(NEW).public_bytes_raw())}).encode(),
    }[encoding]
    for algorithm in ("HS256", "EdDSA"):
        header = {"alg": algorithm, "typ": "at+jwt", "kid": _kid(NEW)}
        forged = _sealed(header, _claims(), lambda text: hmac.digest(secret, text, hashlib.sha256))
        assert refused(forged) is Unauthenticated


@pytest.mark.parametrize(
    "kid",
    ["", "../../dev/null", "/dev/null", "' OR '1'='1", "x' UNION SELECT 'key' --", "\x00", "é", _kid(FOREIGN)],
)
def test_a_kid_that_is_none_of_ours_is_refused_whatever_it_says(kid: str) -> None:
    assert refused(signed(header={"kid": kid})) is Unauthenticated
    assert refused(signed(FOREIGN, {"kid": kid})) is Unauthenticated


@pytest.mark.parametrize("kid", [None, 7, ["x"], {"x": 1}, True])
def test_a_kid_that_is_no_text_is_refused(kid: object) -> None:
    assert refused(signed(header={"kid": kid})) is Unauthenticated


@pytest.mark.parametrize(
    "more",
    [
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": _base64url(_public(FOREIGN).public_bytes_raw())}},
        {"jku": "https://evil.example/keys.json"},
        {"x5u": "https://evil.example/chain.pem"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["nobody-knows"], "nobody-knows": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"typ": "JWT"},
        {"typ": "at+JWT"},
        {"alg": "Ed25519"},
        {"alg": "ES256"},
    ],
    ids=str,
)
def test_a_header_with_more_or_other_than_ours_is_refused_though_the_signature_is_good(more: dict[str, Any]) -> None:
    assert refused(signed(header=more)) is Unauthenticated
    assert refused(signed(FOREIGN, {**more, "kid": _kid(NEW)})) is Unauthenticated


def test_a_tampered_token_is_refused() -> None:
    header, _, signature = signed().split(".")
    changed = _base64url(json.dumps({**_claims(), "role": "owner"}).encode())
    assert refused(f"{header}.{changed}.{signature}") is Unauthenticated
    assert refused(f"{header}.{changed}.") is Unauthenticated


def test_an_expired_token_is_said_to_be_expired_if_it_was_ours() -> None:
    long_ago = int(time.time()) - 3600
    assert refused(signed(iat=long_ago, exp=long_ago + 900)) is TokenExpired
    assert refused(signed(FOREIGN, {"kid": _kid(NEW)}, iat=long_ago, exp=long_ago + 900)) is Unauthenticated


def test_clocks_may_differ_by_seconds_and_no_more() -> None:
    now = int(time.time())
    assert TOKENS.read(signed(iat=now + LEEWAY_S - 2)).sub == PERSON.id
    assert refused(signed(iat=now + LEEWAY_S + 60)) is Unauthenticated
    assert refused(signed(nbf=now + LEEWAY_S + 60)) is Unauthenticated
    assert TOKENS.read(signed(exp=now - LEEWAY_S + 2)).sub == PERSON.id
    assert refused(signed(exp=now - LEEWAY_S - 1)) is TokenExpired


@pytest.mark.parametrize("name", [*Claims.__struct_encode_fields__])
def test_a_token_that_lacks_a_claim_is_refused(name: str) -> None:
    assert refused(signed(without=name)) is Unauthenticated


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": [AUDIENCE, "somebody-else"]},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": [ISSUER]},
        {"iss": ""},
        {"sub": "1' OR '1'='1"},
        {"sub": 7},
        {"sid": None},
        {"tenantId": "*"},
        {"exp": "tomorrow"},
        {"exp": "99999999999"},
        {"exp": 1e400},
        {"exp": None},
        {"iat": "now"},
        {"iat": -1},
        {"permissions": "orders:write"},
        {"role": ["owner"]},
    ],
    ids=str,
)
def test_a_claim_of_another_sort_or_for_somebody_else_is_refused(claims: dict[str, Any]) -> None:
    assert refused(signed(**claims)) is Unauthenticated


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "a.b.c.d.e", "é.é.é", "x" * 100_000, "[" * 4000, "\x00"])
def test_what_is_no_token_at_all_is_refused(token: str) -> None:
    assert refused(token) is Unauthenticated


def test_a_deeply_nested_header_is_refused() -> None:
    header = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
    assert refused(f"{header}.e30.AAAA") is Unauthenticated


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    """RFC 8037, appendix A.3."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    assert _kid(seed) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_derived_seed_is_the_same_each_time_and_not_the_secret_it_comes_from() -> None:
    assert derived_seed(OLD) == derived_seed(OLD) != derived_seed(NEW)
    assert derived_seed(OLD) != OLD
