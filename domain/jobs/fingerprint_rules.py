"""The fingerprint of an error: equal for the same fault in the same place, whatever ids and numbers its text carries.

Pure. Operators triage dead letters by it, one group per fault instead of one row per job.
"""

import hashlib
import re

#: Raised when the rule changes, so that old and new fingerprints never mix in one group.
VERSION = "1"

_VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"", re.IGNORECASE
)
_FRAME = re.compile(r'File "([^"]+)", line \d+, in (\S+)')
_FRAMES_KEPT = 3


def fingerprint(kind: str, error_class: str, message: str, traceback: str) -> str:
    """12 hex digits. Ids, numbers and quoted words of the message do not count; line numbers do not either."""
    frames = [f"{path.rsplit('/', 1)[-1]}:{function}" for path, function in _FRAME.findall(traceback)]
    parts = [VERSION, kind, error_class, normalised(message), *frames[-_FRAMES_KEPT:]]
    return hashlib.sha256("\x1f".join(parts).encode(errors="replace")).hexdigest()[:12]


def normalised(message: str) -> str:
    """The message with everything that varies between two jobs replaced by `?`."""
    return _VARYING.sub("?", message)[:500]
