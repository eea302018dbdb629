"""Where a development system listens: the API where it was told to, the miniature outside world where it always does.

The latter's ports are remembered in the data folder, so that what was moved once stays where it is.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.dev.ports import Ports
from ops.stack import PORTS

#: After an unclean end, children of the last run may still be leaving.
LEFTOVERS_LEAVE_WITHIN_S = 5.0
_OUTSIDE = {"inbox": 8025, "smtp": 8026, "receiver": 8090}
_SHOWN = {"inbox": "the mail inbox", "smtp": "its SMTP port", "receiver": "the receiver"}
_ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # recognised, not bound


@dataclass(frozen=True)
class Places:
    """Where the parts of one development system listen. `moved` tells of those that are not where they should be."""

    host: str
    web: int
    inbox: int
    smtp: int
    receiver: int
    metrics: Mapping[str, int]
    moved: Sequence[str] = ()

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in _ANY_ADDRESS else self.host
        return f"http://[{host}]:{self.web}" if ":" in host else f"http://{host}:{self.web}"


def choose_places(port: int, host: str, data: Path, measured: Sequence[str]) -> Places:
    """Ports that are free, for every process that needs one. Raises PortTaken for that of the API."""
    patience_s = LEFTOVERS_LEAVE_WITHIN_S if (data / "pids.json").exists() else 0.0
    outer, outside, inner = Ports(host, patience_s), Ports("127.0.0.1", patience_s), Ports("127.0.0.1")
    web = outer.exactly(port) if port else outer.first_free(secrets.choice(PORTS))
    wanted = {**_OUTSIDE, **_remembered(data)}
    given = {name: outside.preferably(port) for name, port in wanted.items()}
    return Places(
        host=host,
        web=web,
        **given,
        metrics={name: inner.first_free(web + 1001 + i) for i, name in enumerate(measured)},
        moved=[
            f"{_SHOWN[name]} moved from {wanted[name]}, which is taken, to {given[name]}"
            for name in wanted
            if given[name] != wanted[name]
        ],
    )


def remember(places: Places, data: Path) -> None:
    """The next start on this data prefers the same ports."""
    ports = {name: getattr(places, name) for name in _OUTSIDE}
    fresh = data / "ports.new"
    fresh.write_bytes(msgspec.json.encode(ports))
    fresh.replace(data / "ports.json")


def _remembered(data: Path) -> dict[str, int]:
    try:
        known = msgspec.json.decode((data / "ports.json").read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {name: port for name, port in known.items() if name in _OUTSIDE and 0 < port < 2**16}
