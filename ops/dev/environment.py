"""What `longshore up` knows and others read from `<data>/dev.env`: where everything is, and the keys to it.

Secrets are made once and kept in files that only their owner may read. The environment wins over all of it.
"""
# ruff: noqa: PLC0415  # lazy: the servers start while nothing heavy is loaded

import base64
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ops.dev.places import Places
from ops.settings import read_env_file

if TYPE_CHECKING:
    from sqlalchemy import Connection

TENANT = "default"
_PRIVATE = 0o600
_KEYS = {"LONGSHORE_API_KEY": ["api"], "LONGSHORE_ADMIN_KEY": ["api", "admin"]}


def environment(places: Places, data: Path, database_url: str, redis_url: str) -> dict[str, str]:
    """All of dev.env but the keys, whose tenant must exist first."""
    here = "http://127.0.0.1"
    made = {
        "LONGSHORE_URL": places.url,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": _secret_key(data),
        "HOST": places.host,
        "PORT": str(places.web),
        "SMTP_URL": f"smtp://127.0.0.1:{places.smtp}",
        "REPORTS_URL": f"file://{data}/reports",
        "WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8,::1/128",
        "WEBHOOK_ALLOW_HTTP": "true",
        "INBOX_URL": f"{here}:{places.inbox}",
        "RECEIVER_URL": f"{here}:{places.receiver}/hooks",
        "RECEIVER_CONTROL": f"{here}:{places.receiver}",
        "METRICS_TARGETS": ",".join(f"{name}={here}:{port}/metrics" for name, port in places.metrics.items()),
    }
    ours = {"LONGSHORE_URL", "HOST", "PORT", "DATABASE_URL", "REDIS_URL"}  # decided already, the environment included
    return {name: value if name in ours else os.environ.get(name) or value for name, value in made.items()}


def ensure_keys(database_url: str, dev_env: Path) -> dict[str, str]:
    """Two keys of the tenant `default`: those of dev.env if this database knows them, else new ones."""
    from domain.database import connect
    from domain.tenants.keys import create_key
    from domain.tenants.plan_rules import UNLIMITED
    from domain.tenants.tenants import ensure_tenant

    known, keys = read_env_file(dev_env), dict[str, str]()
    engine = connect(database_url, process="up")
    with engine.begin() as tx:
        tenant = ensure_tenant(tx, TENANT, UNLIMITED)
        for name, scopes in _KEYS.items():
            is_good = _is_good(tx, known.get(name, ""), scopes)
            keys[name] = known[name] if is_good else create_key(tx, tenant, f"up: {' and '.join(scopes)}", scopes)
    engine.dispose()
    return keys


def _is_good(tx: "Connection", key: str, scopes: Sequence[str]) -> bool:
    """Whether this database knows it for these scopes. That of a suspended tenant opens again when the tenant does."""
    from domain.errors import TenantSuspended
    from domain.tenants.key_rules import parse_key
    from domain.tenants.keys import find_caller
    from domain.tenants.permission_rules import permissions_of_scopes

    if (parts := parse_key(key)) is None:
        return False
    try:
        caller = find_caller(tx, parts)
    except TenantSuspended:
        return True
    return caller is not None and caller.permissions == permissions_of_scopes(scopes)


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """The file is there, whole, and for its owner's eyes only."""
    write_private(path, "# Written by `longshore up`; it holds secrets.\n", values)


def write_private(path: Path, head: str, values: Mapping[str, str]) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=_PRIVATE)
    fresh.write_text(head + "".join(f"{name}={value}\n" for name, value in values.items()))
    fresh.replace(path)


def _secret_key(data: Path) -> str:
    """Made once: what it encrypted must stay readable."""
    path = data / "secret.key"
    if not path.exists():
        write_private(path, base64.b64encode(secrets.token_bytes(32)).decode() + "\n", {})
    return path.read_text().strip()
