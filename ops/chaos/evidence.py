"""What is kept of a run that broke a promise: what everybody said, what callers were told, and what was there."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Row

from ops.chaos.history import History
from ops.chaos.rest import Rest
from ops.chaos.system import System

_ROOT, _PRODUCT = Path(__file__).parents[2], ("api", "domain", "migrations", "workers")
#: Of the history: what is no record, or stands in another one.
_NOT_KEPT = {"_lock", "_recent", "owners", "stage"}
_SHOWN_OF_DIGEST = 12


def keep_evidence(folder: Path, running: System, history: History, rest: Rest) -> None:
    """Every log, and beside them as JSON what the judges were given: `told` by callers and faults, `seen` at the end.

    Ids in a finding can be looked up there. Keys and secrets in it are those of a system that is gone.
    """
    running.keep_logs(folder)
    told = {name: value for name, value in vars(history).items() if name not in _NOT_KEPT}
    for name, content in (
        ("told", told | {"stage": history.stage.turns}),
        ("seen", rest.seen),
        ("findings", rest.findings),
    ):
        encoded = msgspec.json.format(msgspec.json.encode(content, enc_hook=_plain), indent=1)
        (folder / f"{name}.json").write_bytes(encoded)


def _plain(row: Any) -> Any:
    if isinstance(row, Row):
        return row._asdict()
    raise NotImplementedError(f"{type(row).__name__} has no place in a record")


def product() -> str:
    """Which product was judged: a digest of its sources. Two runs with the same one had the same product."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _PRODUCT for path in (_ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(_ROOT)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_SHOWN_OF_DIGEST]
