"""What is sealed opens with its key, in its place, unchanged, and not otherwise."""

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from domain.vault import seal, seal_text, unseal, unseal_text

KEY, OTHER_KEY = bytes(32), bytes([1]) * 32
PLACE = "webhook_endpoints.secrets:1"


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_what_is_sealed_opens_with_its_key_in_its_place_and_nowhere_else(secret: bytes, place: str) -> None:
    sealed = seal(KEY, secret, place)
    assert unseal(KEY, sealed, place) == secret
    for key, elsewhere in ((OTHER_KEY, place), (KEY, f"{place}2")):
        with pytest.raises(InvalidTag):
            unseal(key, sealed, elsewhere)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_sealed_as_text(secret: str) -> None:
    assert unseal_text(KEY, seal_text(KEY, secret, PLACE), PLACE) == secret


@given(st.data())
def test_a_sealed_value_that_was_changed_anywhere_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, b"whsec_secret", PLACE))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((InvalidTag, ValueError)):
        unseal(KEY, bytes(sealed), PLACE)


def test_one_secret_is_sealed_otherwise_each_time() -> None:
    assert len({seal(KEY, b"whsec_secret", PLACE) for _ in range(100)}) == 100
