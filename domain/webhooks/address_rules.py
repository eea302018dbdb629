"""Which addresses a webhook may be sent to, and which URLs an endpoint may be registered with.

`forbidden` judges a concrete address and is the law at the moment of connecting. `url_problem` refuses early what the
URL alone gives away; it is never the only check, because a name may point elsewhere tomorrow.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

Network = IPv4Network | IPv6Network

# Our own table: what `ipaddress` calls global differs between Python releases and includes multicast and 6to4 relays.
_FORBIDDEN_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",  # loopback, RFC 1122
        "168.63.129.16/32",  # wire server of a large cloud: looks public, answers inside
        "169.254.0.0/16",  # link-local and cloud metadata, RFC 3927
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved and broadcast, RFC 1112
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")  # all that is assigned for global unicast, RFC 4291
_FORBIDDEN_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them, RFC 2928
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4 carries an IPv4 address inside, RFC 3056
        "3fff::/20",  # documentation, RFC 9637
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")

URL_MAX_CHARS = 2048
_PORTS = frozenset({443, 8443})
_PRIVATE_SUFFIXES = (".internal", ".local", ".localhost")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def forbidden(ip: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether nothing may be sent to this address; what is not an address at all is forbidden too.

    `allowed` is the operator's list and wins over the table. A NAT64 address needs its prefix in that list, and is then
    judged by the IPv4 address it carries (RFC 6052).
    """
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return address in _NAT64 and forbidden(str(IPv4Address(int(address) & 0xFFFFFFFF)), allowed)
    if isinstance(address, IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    return address not in _UNICAST_V6 or any(address in network for network in _FORBIDDEN_V6)


def url_problem(
    url: str, *, allow_http: bool, allow_private_names: bool, allowed: Sequence[Network] = ()
) -> str | None:
    """Why an endpoint may not have this URL, as a short stable text for its owner; None when it may.

    `allow_http` is for development: plain http and any port. `allow_private_names` admits single-label names and
    private suffixes. A literal address is judged by `forbidden`.
    """
    if len(url) > URL_MAX_CHARS:
        return f"the URL is longer than {URL_MAX_CHARS} characters"
    if "\\" in url or any(letter.isspace() or not letter.isprintable() for letter in url):
        return "the URL contains spaces, control characters or backslashes"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the URL is malformed"
    if parts.scheme not in ({"https", "http"} if allow_http else {"https"}):
        return "the URL must start with http:// or https://" if allow_http else "the URL must start with https://"
    return (
        _shape_problem(url, parts)
        or (None if allow_http or port is None or port in _PORTS else "the port must be 443 or 8443")
        or ("port 0 cannot be reached" if port == 0 else None)
        or _host_problem(parts, allow_private_names, allowed)
    )


def _shape_problem(url: str, parts: SplitResult) -> str | None:
    if "@" in parts.netloc:
        return "the URL must not contain a user name or password"
    if "#" in url:
        return "the URL must not contain a fragment"
    return None if parts.hostname else "the URL has no host"


def _host_problem(parts: SplitResult, allow_private_names: bool, allowed: Sequence[Network]) -> str | None:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return "the address is not reachable from here" if forbidden(host, allowed) else None
    try:
        # Full-width digits and dots become plain ones here, so they are judged as what they will be resolved as.
        name = host.encode("idna").decode().lower()
    except UnicodeError:
        return "the host is not a valid name"
    if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
        return _literal_problem(name, allowed)
    return _name_problem(name.removesuffix("."), allow_private_names)


def _literal_problem(name: str, allowed: Sequence[Network]) -> str | None:
    try:
        IPv4Address(name)
    except ValueError:
        # 127.1, 0x7f000001, 2130706433 and 0177.0.0.1 all reach 127.0.0.1 through inet_aton.
        return "an address must be written as four decimal numbers"
    return "the address is not reachable from here" if forbidden(name, allowed) else None


def _name_problem(name: str, allow_private_names: bool) -> str | None:
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "the host is not a valid name"
    if allow_private_names:
        return None
    if len(labels) == 1:
        return "the host must be a full domain name"
    return "the host is a private name" if name.endswith(_PRIVATE_SUFFIXES) else None
