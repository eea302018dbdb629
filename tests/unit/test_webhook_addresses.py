"""No webhook leaves for an address inside, however it is written."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.webhooks.address_rules import forbidden, url_problem

# Each of these is "global" for `ipaddress` in at least one supported Python release.
CALLED_GLOBAL_BY_THE_STANDARD_LIBRARY = [
    "224.0.0.1",
    "239.1.1.1",
    "192.88.99.1",
    "192.0.0.8",
    "168.63.129.16",
    "::7f00:1",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001:20::1",
    "3fff::1",
    "5f00::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
]
FORBIDDEN = [
    "0.0.0.0",  # noqa: S104
    "0.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.2.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:7f00:1",
    "2001::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2002:a00:1::",
    "3fff:fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    *CALLED_GLOBAL_BY_THE_STANDARD_LIBRARY,
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.88.98.1",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700::1111",
    "2a00:1450::1",
    "3ffe::1",
    "3fff:1000::1",
]
NOT_ADDRESSES = [
    "",
    "localhost",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "127.0.0.01",
    "1.2.3.4.5",
    "8.8.8.8 ",
]


@pytest.mark.parametrize("ip", FORBIDDEN)
def test_inside_addresses_are_forbidden(ip: str) -> None:
    assert forbidden(ip)


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_not_forbidden(ip: str) -> None:
    assert not forbidden(ip)


@pytest.mark.parametrize("ip", NOT_ADDRESSES)
def test_what_is_not_a_canonical_address_is_forbidden(ip: str) -> None:
    assert forbidden(ip)
    assert forbidden(ip, [ip_network("0.0.0.0/0"), ip_network("::/0")])


def test_the_operator_may_open_a_private_network() -> None:
    opened = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")]
    assert not forbidden("10.1.2.3", opened)
    assert not forbidden("::ffff:10.1.2.3", opened)
    assert not forbidden("fd00:1::5", opened)
    assert forbidden("10.2.0.1", opened)
    assert forbidden("fd00:2::5", opened)


def test_nat64_is_opened_by_its_prefix_and_judged_by_the_address_inside() -> None:
    prefix = ip_network("64:ff9b::/96")
    assert forbidden("64:ff9b::808:808")
    assert not forbidden("64:ff9b::808:808", [prefix])
    assert forbidden("64:ff9b::7f00:1", [prefix])
    assert forbidden("64:ff9b::a9fe:a9fe", [prefix])
    assert not forbidden("64:ff9b::a00:1", [prefix, ip_network("10.0.0.0/8")])
    assert forbidden("64:ff9b:1::808:808", [prefix])


@given(st.integers(0, 2**32 - 1))
def test_an_address_and_its_mapped_form_are_judged_alike(number: int) -> None:
    assert forbidden(str(ip_address(number))) == forbidden(str(ip_address((0xFFFF << 32) | number)))


@given(st.ip_addresses())
def test_private_loopback_link_local_and_multicast_are_never_let_through(address: object) -> None:
    judged = ip_address(str(address))
    if judged.is_private or judged.is_loopback or judged.is_link_local or judged.is_multicast or judged.is_unspecified:
        assert forbidden(str(judged))


def problem(url: str) -> str | None:
    return url_problem(url, allow_http=False, allow_private_names=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/in?tenant=a&x=%20",
        "HTTPS://Hooks.Example.COM:443/",
        "https://hooks.example.com:8443/x",
        "https://hooks.example.com./x",
        "https://bücher.example.com/x",
        "https://xn--bcher-kva.example.com/x",
        "https://my_hooks.example.com/x",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/x",
        "https://1e100.net/",
        "https://internal.example.com/",
        "https://local.dev/",
    ],
)
def test_ordinary_urls_are_fine(url: str) -> None:
    assert problem(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/", "https://"),
        ("ftp://hooks.example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://hooks.example.com/", "https://"),
        ("//hooks.example.com/", "https://"),
        ("hooks.example.com", "https://"),
        ("", "https://"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https:hooks.example.com", "no host"),
        ("https://:443/", "no host"),
        ("https://user@hooks.example.com/", "user name"),
        ("https://user:pass@hooks.example.com/", "user name"),
        ("https://hooks.example.com@127.0.0.1/", "user name"),
        ("https://@hooks.example.com/", "user name"),
        ("https://hooks.example.com/#part", "fragment"),
        ("https://hooks.example.com/#", "fragment"),
        ("https://hooks.example.com:80/", "port"),
        ("https://hooks.example.com:22/", "port"),
        ("https://hooks.example.com:0/", "port"),
        ("https://hooks.example.com:65536/", "malformed"),
        ("https://hooks.example.com:abc/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://hooks.example.com/\r\nHost: inside", "control characters"),
        ("https://hooks.example.com/\0", "control characters"),
        ("https://hooks.example.com/a b", "spaces"),
        (" https://hooks.example.com/", "spaces"),
        ("https://hooks.example.com\\@127.0.0.1/", "backslashes"),
        ("https://hooks.example.com/\u202e", "control characters"),
        ("https://hooks.example.com/" + "x" * 2048, "longer than 2048"),
        ("https://localhost/", "full domain name"),
        ("https://localhost./", "full domain name"),
        ("https://intranet/", "full domain name"),
        ("https://metadata.google.internal/", "private name"),
        ("https://METADATA.GOOGLE.INTERNAL./", "private name"),
        ("https://printer.local/", "private name"),
        ("https://app.localhost/", "private name"),
        ("https://127.0.0.1/", "not reachable"),
        ("https://169.254.169.254/latest/meta-data/", "not reachable"),
        ("https://10.0.0.1:8443/", "not reachable"),
        ("https://[::1]/", "not reachable"),
        ("https://[::ffff:10.0.0.1]/", "not reachable"),
        ("https://[fe80::1%25eth0]/", "not reachable"),
        ("https://[64:ff9b::7f00:1]/", "not reachable"),
        ("https://127.1/", "four decimal numbers"),
        ("https://0x7f000001/", "four decimal numbers"),
        ("https://0X7F.1/", "four decimal numbers"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://0177.0.0.1/", "four decimal numbers"),
        ("https://0x7f.0.0.1/", "four decimal numbers"),
        ("https://127.0.0.1./", "four decimal numbers"),
        ("https://1.2.3.4.5/", "four decimal numbers"),
        ("https://hooks.example.0x/", "four decimal numbers"),
        ("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "not reachable"),
        ("https://①②⑦.⓪.⓪.①/", "not reachable"),
        ("https://127。0。0。1/", "not reachable"),
        ("https://%31%32%37.0.0.1/", "four decimal numbers|not a valid name"),
        ("https://hooks..example.com/", "not a valid name"),
        ("https://-hooks.example.com/", "not a valid name"),
        ("https://hooks.exa%6dple.com/", "not a valid name"),
        ("https://" + "a" * 64 + ".example.com/", "not a valid name"),
        ("https://" + "a." * 127 + "com/", "not a valid name"),
        ("https://hooks.example.com,inside/", "not a valid name"),
    ],
)
def test_a_bad_url_is_refused_for_a_reason(url: str, words: str) -> None:
    reason = problem(url)
    assert reason is not None
    assert any(word in reason for word in words.split("|")), reason


def test_development_may_use_plain_http_any_port_and_private_names() -> None:
    for url in ("http://hooks.example.com:80/", "http://localhost:9000/in", "https://receiver.internal:4443/"):
        assert url_problem(url, allow_http=True, allow_private_names=True) is None
    assert url_problem("http://localhost:0/", allow_http=True, allow_private_names=True) is not None
    assert url_problem("ftp://localhost/", allow_http=True, allow_private_names=True) is not None


def test_a_literal_address_needs_the_operators_leave_even_in_development() -> None:
    url = "http://127.0.0.1:9000/in"
    assert url_problem(url, allow_http=True, allow_private_names=True) is not None
    loopback = [ip_network("127.0.0.0/8")]
    assert url_problem(url, allow_http=True, allow_private_names=True, allowed=loopback) is None


@given(st.text(max_size=60), st.sampled_from(["", "https://", "https://[", "https://a.example:"]))
def test_any_text_gets_an_answer(text: str, start: str) -> None:
    reason = problem(start + text)
    assert reason is None or reason
