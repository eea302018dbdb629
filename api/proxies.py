"""Where a request really comes from, when proxies of our own stand in front. Pure.

Anybody can write an X-Forwarded-For: only what a trusted proxy added to it counts, read from the right, until the first
address that is none of ours.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]


def origin_of(peer: str, forwarded: Iterable[str], trusted: Networks) -> str:
    """The address that a request came from. `forwarded`: the lines of its X-Forwarded-For, in their order."""
    named = [word.strip() for word in ",".join(forwarded).split(",") if word.strip()]
    address = peer
    while named and _is_in(address, trusted):
        address = named.pop()
    return address if _is_address(address) else peer


def _is_in(address: str, networks: Networks) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
