"""Where a request comes from: only what trusted proxies have said of it counts, whatever else its headers claim."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.proxies import origin_of

OURS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "origin"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),  # nobody whom we trust said so
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.2", ["1.2.3.4, 198.51.100.7"], "198.51.100.7"),  # the first was written by the caller
        ("10.0.0.2", ["1.2.3.4", "198.51.100.7, 10.0.0.3"], "198.51.100.7"),
        ("10.0.0.2", ["10.0.0.9, 10.0.0.3"], "10.0.0.9"),
        ("10.0.0.2", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::2", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.2", ["junk"], "10.0.0.2"),
        ("10.0.0.2", ["", " , "], "10.0.0.2"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_last_address_that_is_none_of_ours_is_the_origin(peer: str, forwarded: list[str], origin: str) -> None:
    assert origin_of(peer, forwarded, OURS) == origin


@given(st.lists(st.text()))
def test_without_trusted_proxies_nothing_in_a_header_counts(forwarded: list[str]) -> None:
    assert origin_of("10.0.0.2", forwarded, []) == "10.0.0.2"


@given(st.lists(st.text()), st.ip_addresses(v=4, network="198.51.100.0/24").map(str))
def test_what_a_caller_writes_before_the_proxys_word_changes_nothing(claims: list[str], told: str) -> None:
    assert origin_of("10.0.0.2", [*claims, told], OURS) == told
