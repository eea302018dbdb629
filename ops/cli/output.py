"""What a command says and how it ends: tables for people, stable JSON for programs, one exit code per kind of ending.

With --json, stdout carries the JSON and nothing else. Without a terminal, tables are plain text, never cut.
"""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for rich's tables or the database driver

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from typing import NoReturn

import typer

Record = Mapping[str, object]


class ExitCode(IntEnum):
    """How a command ended. Ctrl-C is typer's doing, with the same number."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    PARTIAL = 5
    REFUSED = 6
    TIMEOUT = 7
    INTERRUPTED = 130


_STYLES = {
    **dict.fromkeys(("succeeded", "alive", "healthy", "replayed", "edited", "ok"), "green"),
    **dict.fromkeys(("dead", "lost", "disabled", "BROKEN"), "red"),
    **dict.fromkeys(("retrying", "parked", "slow", "crashed", "scheduled"), "yellow"),
    "running": "cyan",
}
_AGES = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
# What a job's error carries comes from outside: an escape sequence in it must not reach the operator's terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: Columns that may be cut on a narrow terminal, and what is left of them at least.
_FREE_TEXT = {"error": 24}


class Output:
    """Where one command's answer goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, message: str) -> None:
        """For people: on stdout, or on stderr where stdout belongs to the JSON."""
        typer.echo(printable(message), err=self.as_json)

    def document(self, value: object) -> None:
        """One JSON document on stdout: camelCase names, ISO times in UTC, ids as text."""
        import msgspec

        typer.echo(_inert(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))

    def line(self, value: object) -> None:
        """One JSON document on one line, written at once: for streams."""
        import msgspec

        typer.echo(_inert(msgspec.json.encode(value).decode()))

    def records(self, records: Sequence[Record], columns: Mapping[str, str], empty: str) -> None:
        """Records as JSON, whole; or as a table of the columns given: heading -> path of the field (`error.class`)."""
        if self.as_json:
            self.document(records)
        elif records:
            self.table(records, columns)
        else:
            complain(empty)

    def table(self, records: Sequence[Record], columns: Mapping[str, str]) -> None:
        """For people only. A terminal gets ages for times, and long errors cut at its edge."""
        live = sys.stdout.isatty()
        values = [[_at(record, path) for path in columns.values()] for record in records]
        rows = [
            [age(value) if live and isinstance(value, datetime) else cell(value) for value in row] for row in values
        ]
        if live:
            _print_rich(list(columns), rows)
        else:
            _print_plain([list(columns), *rows])

    def fields(self, record: Record) -> None:
        """One thing, for people: a line per field that has a value."""
        shown = {name: cell(value) for name, value in record.items() if value is not None}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            typer.echo(f"{name:<{width}}  {value}")


def _at(record: Record, path: str) -> object:
    value: object = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def cell(value: object) -> str:
    """A value on one line, for people."""
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
        case float():
            return f"{value:.1f}"
        case {"class": kind, "message": message}:
            return cell(f"{kind}: {message}")
        case dict() | list():
            return printable(json.dumps(value, ensure_ascii=False, default=str))
        case _:
            return printable(" ".join(str(value).split()))


def age(moment: datetime, now: datetime | None = None) -> str:
    """`40s ago`, `in 5m`: whole units, the largest that fits."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    unit, size = next((unit, size) for unit, size in _AGES if abs(seconds) >= size or size == 1)
    count = f"{abs(seconds) // size:.0f}{unit}"
    return f"in {count}" if seconds <= -1 else f"{count} ago"


def printable(text: str) -> str:
    """The text with what could steer a terminal made visible."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _inert(document: str) -> str:
    """The same JSON with such characters, which stand in its strings only, escaped (RFC 8259, section 7)."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    least = 0
    for heading, column in zip(headings, zip(*rows, strict=True), strict=True):
        # Ids and states are there to be copied and compared, whatever the width: only free text gives way.
        longest = max(map(len, (heading, *column)))
        width = min(longest, _FREE_TEXT.get(heading, longest))
        table.add_column(heading, no_wrap=heading not in _FREE_TEXT, min_width=width)
        least += width + 2
    for row in rows:
        table.add_row(*(Text(word, _STYLES.get(word, ""), no_wrap=True, overflow="ellipsis") for word in row))
    console = Console(file=sys.stdout)
    console.width = max(console.width, least)
    console.print(table, crop=False)


def complain(message: str) -> None:
    """One clear line on stderr."""
    typer.echo(printable(message), err=True)


def leave(code: ExitCode, message: str) -> NoReturn:
    """The command ends here, and says why."""
    complain(message)
    raise typer.Exit(code)


@contextmanager
def answering(as_json: bool = False) -> Iterator[Output]:
    """The body of a command. What its callers or the state got wrong, and a database that does not answer, become one
    line and an exit code; only a bug of ours shows a traceback.
    """
    from domain.errors import LongshoreError
    from ops.settings import InvalidSettings

    try:
        yield Output(as_json)
    except LongshoreError as error:
        leave(exit_code_of(error), refusal(error))
    except InvalidSettings as error:
        leave(ExitCode.USAGE, "\n".join(error.problems))
    except Exception as error:
        from ops.cli.database import silence_of

        if (silence := silence_of(error)) is None:
            raise
        leave(*silence)


def exit_code_of(error: Exception) -> ExitCode:
    """What this error means to whoever called the command."""
    from domain import errors

    match error:
        case errors.NotFound():
            return ExitCode.NOT_FOUND
        case errors.InvalidState() | errors.DeadLetterResolved():
            return ExitCode.REFUSED
        case errors.BodyInvalid():
            return ExitCode.USAGE
        case errors.Unauthenticated() | errors.Forbidden():
            return ExitCode.AUTH
        case _:
            return ExitCode.ERROR


def refusal(error: Exception) -> str:
    """The error in one line, with what is wrong in which field."""
    violations = getattr(error, "violations", [])
    return " ".join([str(error), *(f"{violation.field}: {violation.message}." for violation in violations)])
