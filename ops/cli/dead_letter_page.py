"""One dead letter, whole: for an operator who has to decide about it, or for a program."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row

from ops.cli.output import Output, Record
from ops.cli.records import TIMELINE, attempt_record, dead_letter_record, masked

_FROM_SNAPSHOT = ("args", "crashes", "maxAttempts", "lane", "orderId", "eventId", "traceContext")


def show(out: Output, letter: Row[Any], attempts: Sequence[Row[Any]]) -> None:
    """The snapshot taken at its death, and the attempts as long as retention keeps them."""
    detail = dict(masked(letter.snapshot["detail"]) or {})
    page = {
        **dead_letter_record(letter),
        **{name: masked(letter.snapshot[name]) for name in _FROM_SNAPSHOT},
        "createdAt": datetime.fromisoformat(letter.snapshot["createdAt"]),
        "traceback": detail.pop("traceback", None),
        "detail": detail or None,
        "timeline": [attempt_record(row) for row in attempts],
    }
    if out.as_json:
        out.document(page)
    else:
        _print(out, page)


def _print(out: Output, page: dict[str, Any]) -> None:
    apart = {"error", "args", "traceback", "timeline", "traceContext"}
    out.fields({name: value for name, value in page.items() if name not in apart})
    error = page["error"] or {}
    out.say(f"\n{error.get('class', 'unknown')}: {error.get('message', '')}")
    out.say(f"\narguments\n{msgspec.json.format(msgspec.json.encode(page['args']), indent=2).decode()}")
    if page["traceback"]:
        out.say(f"\ntraceback\n{page['traceback'].rstrip()}")
    timeline: list[Record] = page["timeline"]
    if timeline:
        out.say("\nattempts")
        out.table(timeline, TIMELINE)
