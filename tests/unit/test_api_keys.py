"""API keys as text: what we make parses, what was changed does not, the secret is nowhere but in the key."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.tenants.key_rules import PREFIX, format_key, parse_key

ids = st.binary(min_size=6, max_size=6)
secrets = st.binary(min_size=32, max_size=32)
KEY = format_key(b"public", b"s" * 32)


@given(ids, secrets)
def test_every_key_parses_into_its_id_and_the_hash_of_its_secret(id_bytes: bytes, secret_bytes: bytes) -> None:
    key = format_key(id_bytes, secret_bytes)
    parts = parse_key(key)
    assert parts is not None
    secret = key.removeprefix(f"{PREFIX}{parts.id}_")[:-6]
    assert parts.secret_hash == hashlib.sha256(secret.encode()).digest()
    assert len(parts.id) == 8
    assert secret not in repr(parts)


@given(secrets, secrets)
def test_two_secrets_never_share_a_key(one: bytes, other: bytes) -> None:
    assert (format_key(b"public", one) == format_key(b"public", other)) == (one == other)


@given(st.integers(0, len(KEY) - 1), st.characters(codec="ascii"))
def test_one_changed_character_is_refused_without_a_look_up(position: int, character: str) -> None:
    changed = KEY[:position] + character + KEY[position + 1 :]
    assert (parse_key(changed) is None) == (changed != KEY)


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert parse_key(text) is None
    assert parse_key(PREFIX + text) is None


@pytest.mark.parametrize(
    "key", ["", KEY[:-1], KEY + "0", " " + KEY, KEY.upper(), KEY.replace("live", "test"), KEY[::-1]]
)
def test_a_key_that_is_cut_padded_or_of_another_kind_is_refused(key: str) -> None:
    assert parse_key(key) is None


@given(ids, secrets)
def test_a_key_needs_no_quoting_anywhere(id_bytes: bytes, secret_bytes: bytes) -> None:
    key = format_key(id_bytes, secret_bytes)
    assert key.replace("_", "").isalnum()
    assert key.isascii()
