"""Asking before anything that cannot be taken back. Without a terminal to ask on, only --yes is a yes."""

import sys

from ops.cli.output import ExitCode, leave, printable


def confirm(question: str, yes: bool) -> None:
    """Returns if the operator agrees; leaves with exit code 6 and nothing done otherwise.

    The question goes to stderr, so that stdout stays the JSON's.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        leave(ExitCode.REFUSED, f"{question} There is no terminal to ask on: give --yes to go ahead. Nothing was done.")
    print(printable(question), "[y/N]", end=" ", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        leave(ExitCode.REFUSED, "Nothing was done.")


def counted(count: int, noun: str) -> str:
    """`1 dead letter`, `2 dead letters`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
