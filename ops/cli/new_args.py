"""Other arguments for a dead job: from the command line or an editor, checked against the kind before anyone asks."""

import difflib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row

from domain.errors import DeadLetterResolved
from domain.jobs.dead_letters import get_dead_letter
from domain.jobs.kind import UnknownJobKind, find_kind
from ops.cli.output import ExitCode, leave


def open_letter(tx: Connection, dead_letter_id: UUID) -> Row[Any]:
    """The dead letter. Raises NotFound, or DeadLetterResolved before an editor is opened in vain."""
    letter = get_dead_letter(tx, dead_letter_id)
    if letter.resolution is not None:
        raise DeadLetterResolved(resolution=letter.resolution)
    return letter


def asked_for(letter: Row[Any], args: str | None) -> dict[str, Any]:
    """The arguments that the operator wants, which fit the kind and differ from the old ones."""
    before = letter.snapshot["args"]
    edited = _read(_edit(before) if args is None else args)
    _check(letter.kind, edited)
    if edited == before:
        leave(ExitCode.REFUSED, "The arguments are the same: `dlq replay` keeps the job. Nothing was done.")
    return edited


def difference(before: object, after: object) -> str:
    """The change line by line, as `diff -u` shows it."""
    lines = difflib.unified_diff(
        _pretty(before).splitlines(), _pretty(after).splitlines(), "before", "after", lineterm=""
    )
    return "\n".join(lines)


def _edit(before: object) -> str:
    if not (sys.stdin.isatty() or os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        leave(ExitCode.USAGE, "There is neither a terminal nor $EDITOR: give the new arguments with --args.")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "args.json"
        file.write_text(_pretty(before) + "\n")
        try:
            if subprocess.run([*_editor(), file], check=False).returncode:
                leave(ExitCode.REFUSED, "The editor failed. Nothing was done.")
            return file.read_text()
        except (OSError, ValueError) as error:  # no such program; quotes that do not end, or what is not UTF-8
            leave(ExitCode.REFUSED, f"The editor failed ({error}). Nothing was done.")


def _editor() -> list[str]:
    return shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")


def _read(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        leave(ExitCode.USAGE, f"The arguments have to be a JSON object: {error}")


def _check(kind_name: str, args: dict[str, Any]) -> None:
    try:
        kind = find_kind(kind_name)
        kind.decode(args)
    except UnknownJobKind:
        leave(ExitCode.REFUSED, f"This version knows no kind {kind_name}, and so no arguments that fit it.")
    except msgspec.ValidationError as error:
        leave(ExitCode.USAGE, f"The arguments do not fit {kind_name}: {error}")
    if unknown := sorted(set(args) - set(kind.payload.__struct_encode_fields__)):
        leave(ExitCode.USAGE, f"The arguments do not fit {kind_name}: it has no {', '.join(unknown)}")


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
