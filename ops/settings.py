"""Every setting of every process, read once from the environment and validated before anything starts.

A leaf: of ours it imports its own rules alone. The environment wins over `.longshore/dev.env`, which `longshore up`
writes so that the command line finds the running development stack. See https://12factor.net/config.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from ops.setting_rules import CHECKS, read_lifetime, read_networks, read_secret, read_secrets, words

#: Where `longshore up` keeps its data, and tells how to reach what it started.
DATA = Path(os.environ.get("LONGSHORE_DATA", ".longshore"))
DEV_ENV = DATA / "dev.env"

#: Never shown, in a log line, a traceback or by `longshore config check`.
SECRET = frozenset({"secret_key", "jwt_keys", "sentry_dsn"})
_IN_A_FILE = "_FILE"
_ABSENT = "is not set (start the embedded stack with `make up`, or set it; LONGSHORE_DATA names its folder)"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class InvalidSettings(Exception):
    """One or more variables are missing or malformed; `problems` names each of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, rename="upper", kw_only=True):
    """The validated environment. Field names are the variables in lower case; units are in the names."""

    database_url: str
    redis_url: str
    environment: Literal["development", "production", "test"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    #: Where errors that nobody foresaw are told to, besides the log. Empty = nowhere.
    sentry_dsn: str = ""
    #: How long SIGTERM may take before the process leaves with exit code 1.
    shutdown_timeout_seconds: Positive = 30
    #: Readiness of the API fails on these; workers and relay always need both.
    ready_requires: str = "postgresql"
    max_body_bytes: Positive = 1_048_576
    #: How often one address may come to the entrance, or fail to prove who it is, in so many milliseconds.
    rate_limit_max_requests: Positive = 100
    rate_limit_window_ms: Annotated[int, msgspec.Meta(ge=1_000)] = 900_000
    #: Proxies in front, as CIDR, separated by commas: whom they name in X-Forwarded-For is believed.
    trusted_proxies: str = ""
    #: Whose pages may call the API from a browser, separated by commas: https://shop.example. Development may say *.
    cors_origin: str = ""
    #: 32 bytes, base64: encrypts webhook secrets at rest (AES-256-GCM).
    secret_key: str
    #: Seeds of Ed25519 keys, 32 bytes each in base64, separated by commas: the first signs, all verify. Empty = one
    #: that is derived from the secret key.
    jwt_keys: str = ""
    #: How long an access token is good, and a log-in with all its refresh tokens.
    jwt_expires_in: str = "15m"
    jwt_refresh_expires_in: str = "7d"
    worker_threads: Positive = 4
    #: How long a finished job can be read; then retention drops it.
    job_retention_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30
    #: 0 = no port for metrics and health of a worker process.
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    smtp_url: str = "smtp://127.0.0.1:1025"
    mail_from: str = "orders@longshore.example"
    #: Where report files live: file:///absolute/folder or s3://bucket/prefix.
    reports_url: str = "file:///var/lib/longshore/reports"
    #: Private networks that webhooks may reach in spite of the address rule, as CIDR, separated by commas.
    webhook_allow_networks: str = ""
    webhook_allow_http: bool = False

    def __post_init__(self) -> None:
        problems = [f"{name.upper()}: {why}" for name, check in CHECKS.items() if (why := check(getattr(self, name)))]
        if self.environment == "production" and "*" in self.allowed_origins:
            problems.append("CORS_ORIGIN: * admits anybody's page, which production does not")
        if not problems and self.access_lifetime >= self.refresh_lifetime:
            problems.append("JWT_REFRESH_EXPIRES_IN: must be longer than JWT_EXPIRES_IN")
        if problems:
            raise InvalidSettings(problems)

    def __repr__(self) -> str:
        """For logs and tracebacks: the keys are left out, and so is whatever a URL carries beside its place."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in SECRET}
        shown |= {name: _without_credentials(url) for name, url in shown.items() if name.endswith("_url")}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def secret_bytes(self) -> bytes:
        return read_secret(self.secret_key)

    @property
    def jwt_seeds(self) -> list[bytes]:
        return read_secrets(self.jwt_keys)

    @property
    def access_lifetime(self) -> timedelta:
        return read_lifetime(self.jwt_expires_in)

    @property
    def refresh_lifetime(self) -> timedelta:
        return read_lifetime(self.jwt_refresh_expires_in)

    @property
    def rate_limit_window_s(self) -> int:
        return self.rate_limit_window_ms // 1_000

    @property
    def proxy_networks(self) -> list[IPv4Network | IPv6Network]:
        return read_networks(self.trusted_proxies)

    @property
    def allowed_networks(self) -> list[IPv4Network | IPv6Network]:
        return read_networks(self.webhook_allow_networks)

    @property
    def allowed_origins(self) -> list[str]:
        return words(self.cors_origin)

    @property
    def required_for_readiness(self) -> frozenset[str]:
        return frozenset(words(self.ready_requires))


def load_settings(environ: Mapping[str, str] | None = None, dev_env: Path = DEV_ENV) -> Settings:
    """The settings of this process. Raises InvalidSettings naming every bad variable, not only the first.

    NAME_FILE names a file that holds the value of NAME, as the secrets of Docker and Kubernetes are given.
    """
    problems = list[str]()
    known = {
        **_given(read_env_file(dev_env), problems),
        **_given(os.environ if environ is None else environ, problems),
    }
    problems += [
        f"{field.encode_name}: {why}"
        for field in msgspec.structs.fields(Settings)
        if (why := _why(field, known.get(field.encode_name)))
    ]
    if problems:
        raise InvalidSettings(problems)
    return msgspec.convert(known, Settings, strict=False)


def surroundings() -> dict[str, str]:
    """The environment without what would be a setting of ours: for a system that brings its own."""
    known = {name for field in Settings.__struct_fields__ for name in (field.upper(), f"{field.upper()}{_IN_A_FILE}")}
    return {name: value for name, value in os.environ.items() if name not in known}


def _given(environ: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The settings that stand in it, or in the files it names; what is empty is not given."""
    found = dict[str, str]()
    for name in map(str.upper, Settings.__struct_fields__):
        value, path = environ.get(name, ""), environ.get(f"{name}{_IN_A_FILE}", "")
        if value and path:
            problems.append(f"{name}: is given twice, the other time by {name}{_IN_A_FILE}")
        elif path:
            try:
                value = Path(path).read_text().strip()
            except (OSError, ValueError) as error:
                problems.append(f"{name}{_IN_A_FILE}: cannot be read ({type(error).__name__})")
        if value:
            found[name] = value
    return found


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines of an env file; an absent file is an empty one."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)


def _why(field: msgspec.structs.FieldInfo, value: str | None) -> str:
    if value is None:
        return _ABSENT if field.required else ""
    try:
        msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        return str(error)
    check = CHECKS.get(field.name)
    return check(value) if check else ""


def _without_credentials(url: str) -> str:
    """Scheme, host, port and path: passwords stand before the host or, with some drivers, in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
