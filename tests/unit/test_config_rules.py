"""What a tenant can be configured with: a flag that is on for a share is so for the same subjects each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.tenants.config_rules import KEYS, LEGACY_WEBHOOK_HEADERS, is_on

FLAG = LEGACY_WEBHOOK_HEADERS


@pytest.mark.parametrize("key", KEYS)
def test_each_key_says_what_it_means(key: str) -> None:
    assert KEYS[key].means.endswith(".")


@pytest.mark.parametrize(("said", "value"), [("on", True), ("off", False), ("0%", 0), ("25%", 25), ("100%", 100)])
def test_a_flag_is_on_or_off_or_a_share(said: str, value: object) -> None:
    assert KEYS[FLAG].read(said) == value


@pytest.mark.parametrize("said", ["", "true", "ON", "101%", "-1%", "1.5%", "%", "\u0665%"])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="must be on, off"):
        KEYS[FLAG].read(said)


def test_one_that_nobody_has_set_is_as_it_was_declared() -> None:
    assert is_on(FLAG, None, "anybody") is KEYS[FLAG].default is True


@given(st.uuids(), st.integers(0, 99))
def test_whoever_is_in_a_share_is_in_every_larger_one_and_stays_there(subject: object, share: int) -> None:
    assert is_on(FLAG, share, subject) is is_on(FLAG, share, subject)
    assert is_on(FLAG, share + 1, subject) >= is_on(FLAG, share, subject)
    assert (is_on(FLAG, 0, subject), is_on(FLAG, 100, subject)) == (False, True)


def test_a_share_is_about_as_large_as_it_says() -> None:
    assert 200 < sum(is_on(FLAG, 25, number) for number in range(1_000)) < 300
