"""The options that several commands share, and how their words are read: durations, moments, who is asking."""

import os
import re
import socket
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from ops.setting_rules import CHECKS

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before acting.")]
By = Annotated[str, typer.Option("--by", help="Who acts, for the audit log. Default: $USER@host.", show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the audit log.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]

_AN_ID = "019aa3f1-6c00-7b1e-9d3a-5f6c8e2a4b10"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_525)
_DURATION = re.compile(r"(\d{1,6})([smhdw])")


def read_duration(text: str) -> timedelta:
    """`90s`, `15m`, `1h`, `30d` or `2w`. Raises typer.BadParameter."""
    if (found := _DURATION.fullmatch(text.strip())) is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 1h, 30d or 2w")
    duration = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if duration > _LONGEST:
        raise typer.BadParameter(f"{text!r} is more than a hundred years")
    return duration


def read_moment(text: str, now: datetime | None = None) -> datetime:
    """So long ago (`1h`), or an ISO time; one without an offset is UTC. Raises typer.BadParameter."""
    if _DURATION.fullmatch(text.strip()):
        return (now or datetime.now(UTC)) - read_duration(text)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a duration such as 1h nor a time such as 2026-01-31T08:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_word(text: str) -> str:
    """What a filter is to find. Raises typer.BadParameter for nothing: a variable that is not set asks not for all."""
    if not text:
        raise typer.BadParameter("must not be empty: leave the option out to have all")
    return text


def read_id(text: str) -> UUID:
    """An id as the tables print it. Raises typer.BadParameter."""
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an id; ids look like {_AN_ID}") from None


def refuse_unknown(kind: str | None, queue: str | None = None) -> None:
    """For when nothing of this kind or queue was found: one that this version does not know is a slip of the pen.

    Not before: what an older version left behind may be of a kind that is no more. Raises typer.BadParameter.
    """
    import domain.job_kinds  # noqa: F401, PLC0415  # declares them; `--help` does not need it
    from domain.jobs.kind import KINDS, queues  # noqa: PLC0415

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is not a kind; the kinds are {', '.join(sorted(KINDS))}")
    known = {"default", *queues()}
    if queue is not None and queue not in known:
        raise typer.BadParameter(f"{queue!r} is not a queue; the queues are {', '.join(sorted(known))}")


def read_address(text: str) -> str:
    """Where to listen, by the rule of the setting. Raises typer.BadParameter."""
    if why := CHECKS["host"](text):
        raise typer.BadParameter(why)
    return text


def operator(by: str) -> str:
    """Who acts: as given, or the user of this machine."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid-{os.getuid()}"
    return by or f"{user}@{socket.gethostname()}"
