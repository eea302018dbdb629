"""Every setting of every process, read once from the environment and validated before anything starts.

A leaf: imports nothing of ours. The environment wins over `.longshore/dev.env`, which `longshore up` writes so that the
command line finds the running development stack. See https://12factor.net/config.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

DEV_ENV = Path(".longshore/dev.env")

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
    api_prefix: str = "/api/v1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    #: How long SIGTERM may take before the process leaves with exit code 1.
    shutdown_timeout_seconds: Positive = 30
    #: Readiness of the API fails on these; workers and relay always need both.
    ready_requires: str = "postgresql"
    max_body_bytes: Positive = 1_048_576
    #: 32 bytes, base64: encrypts webhook secrets at rest (AES-256-GCM).
    secret_key: str
    worker_threads: Positive = 4
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
        problems = [
            *_url_problems("DATABASE_URL", self.database_url, {"postgresql", "postgres"}),
            *_url_problems("REDIS_URL", self.redis_url, {"redis", "rediss", "unix"}),
            *_url_problems("SMTP_URL", self.smtp_url, {"smtp", "smtps", "smtp+starttls"}),
            *_url_problems("REPORTS_URL", self.reports_url, {"file", "s3"}),
        ]
        if not self.api_prefix.startswith("/") or self.api_prefix.endswith("/"):
            problems.append("API_PREFIX: must start with / and not end with /")
        if unknown := set(_words(self.ready_requires)) - {"postgresql", "redis"}:
            problems.append(f"READY_REQUIRES: unknown {', '.join(sorted(unknown))}; postgresql and redis are known")
        for check, name in (
            (lambda: self.secret_bytes, "SECRET_KEY"),
            (lambda: self.allowed_networks, "WEBHOOK_ALLOW_NETWORKS"),
        ):
            try:
                check()
            except ValueError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise InvalidSettings(problems)

    @property
    def secret_bytes(self) -> bytes:
        try:
            key = base64.b64decode(self.secret_key, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise ValueError("must be 32 bytes in base64 (make one with: openssl rand -base64 32)")
        return key

    @property
    def allowed_networks(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(word) for word in _words(self.webhook_allow_networks)]

    @property
    def required_for_readiness(self) -> frozenset[str]:
        return frozenset(_words(self.ready_requires))


def load_settings(environ: Mapping[str, str] | None = None, dev_env: Path = DEV_ENV) -> Settings:
    """The settings of this process. Raises InvalidSettings naming every bad variable, not only the first."""
    given = {**read_env_file(dev_env), **(os.environ if environ is None else environ)}
    known = {name.upper(): given[name.upper()] for name in Settings.__struct_fields__ if given.get(name.upper())}
    problems = [
        f"{field.encode_name}: {why}"
        for field in msgspec.structs.fields(Settings)
        if (why := _why(field, known.get(field.encode_name)))
    ]
    if problems:
        raise InvalidSettings(problems)
    return msgspec.convert(known, Settings, strict=False)


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines of an env file; an absent file is an empty one."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)


def _why(field: msgspec.structs.FieldInfo, value: str | None) -> str:
    if value is None:
        return "is not set (start the embedded stack with `make up`, or set it)" if field.required else ""
    try:
        msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _url_problems(name: str, value: str, schemes: set[str]) -> list[str]:
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    return (
        []
        if scheme in schemes
        else [f"{name}: must be a URL starting with {' or '.join(f'{s}://' for s in sorted(schemes))}"]
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
