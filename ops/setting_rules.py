"""What a setting must be beyond its type, and how it is read. No refusal quotes a value that could hold a password."""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

_LIFETIME = re.compile(r"([1-9]\d{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DSN = re.compile(r"https?://[^:@/\s]+(?::[^@/\s]+)?@[^@\s]+/[0-9]+")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_ADDRESS = r"[^@\s<>,;:\"]{1,64}@[A-Za-z0-9.-]{1,255}"
_MAILBOX = re.compile(rf'{_ADDRESS}|(?:"[^"\\\r\n]*" ?|[^"()<>@,;:\\\r\n]*)<{_ADDRESS}>')
_FOLDER_OR_BUCKET = re.compile(r"file:///[^/]|s3://[^/]")
_UNREADABLE = "cannot be read: its port must be a number, and in its password @ : / ? # stand as %40 %3A %2F %3F %23"


def _url(*schemes: str) -> Callable[[str], str]:
    beginnings = tuple(f"{scheme}://" for scheme in schemes)

    def why(value: str) -> str:
        if not value.startswith(beginnings):
            return f"must be a URL starting with {' or '.join(beginnings)}"
        return "" if _is_readable(value) else _UNREADABLE

    return why


def _is_readable(url: str) -> bool:
    """Whether its reader will see in it what was meant: what he says otherwise shows a piece of the password."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        return False


def _database(url: str) -> str:
    """SQLAlchemy, and only it, takes a password to end at the first @. A name may have one: `me@server`."""
    if why := _POSTGRES(url):
        return why
    _, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    return _UNREADABLE if "@" in password or "#" in url else ""


def _reports(url: str) -> str:
    return "" if _FOLDER_OR_BUCKET.match(url) else "must be file:///absolute/folder or s3://bucket/prefix"


def _readable(read: Callable[[str], object]) -> Callable[[str], str]:
    def why(value: str) -> str:
        try:
            read(value)
        except ValueError as error:
            return str(error)
        return ""

    return why


def read_secret(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("must be 32 bytes in base64 (make one with: openssl rand -base64 32)")
    return key


def read_secrets(text: str) -> list[bytes]:
    return [read_secret(word) for word in words(text)]


def read_lifetime(text: str) -> timedelta:
    if (found := _LIFETIME.fullmatch(text)) is None:
        raise ValueError("must be a duration such as 900s, 15m, 1h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def read_networks(text: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(word) for word in words(text)]


def _origins(text: str) -> list[str]:
    wrong = [word for word in words(text) if word != "*" and not _ORIGIN.fullmatch(word)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: an origin is scheme://host or scheme://host:port, and no more")
    return words(text)


def _mailbox(text: str) -> str:
    return "" if _MAILBOX.fullmatch(text) else "must be an address, or a name and one: Shop <orders@shop.example>"


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        return "must be an IP address such as 127.0.0.1, 0.0.0.0 or ::1, and no name"
    return ""


def _dsn(text: str) -> str:
    return "" if not text or _DSN.fullmatch(text) else "must be https://key@host/project, as Sentry shows it"


def _dependencies(text: str) -> str:
    unknown = set(words(text)) - {"postgresql", "redis"}
    return f"unknown {', '.join(sorted(unknown))}; postgresql and redis are known" if unknown else ""


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


_POSTGRES = _url("postgres", "postgresql")

#: What a variable must be beyond its type: each check answers why not, or nothing.
CHECKS: Mapping[str, Callable[[str], str]] = {
    "database_url": _database,
    "redis_url": _url("redis", "rediss", "unix"),
    "host": _address,
    "smtp_url": _url("smtp", "smtp+starttls", "smtps"),
    "reports_url": _reports,
    "mail_from": _mailbox,
    "sentry_dsn": _dsn,
    "ready_requires": _dependencies,
    "secret_key": _readable(read_secret),
    "jwt_keys": _readable(read_secrets),
    "jwt_expires_in": _readable(read_lifetime),
    "jwt_refresh_expires_in": _readable(read_lifetime),
    "cors_origin": _readable(_origins),
    "trusted_proxies": _readable(read_networks),
    "webhook_allow_networks": _readable(read_networks),
}
