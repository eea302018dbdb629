"""What all processes of a run said, read once from their log: how often which event, and what must not be there."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

#: No caller waits longer, so no 202 may come later.
LATEST_S = 4.0
_CHUNK = 1 << 20
_SHOWN = 20
#: Every address of a run ends so.
_ADDRESS = b".example.com"
_EVENT = re.compile(rb'"event":"([a-z_.]+)"')
_RELAY_DIED = re.compile(rb"^supervisor +\| (relay-\d) was killed")


class Line(msgspec.Struct):
    """What is looked at in a line of JSON."""

    event: str = ""
    sqlstate: str = ""
    error: str = ""
    rows: int = 0
    jobs: int = 0
    route: str = ""
    method: str = ""
    statusCode: int = 0  # noqa: N815  # as it is written
    duration: float = 0.0


class Said(msgspec.Struct):
    """Counts of log events by name, some with what they carried: `transaction.retried 40P01`."""

    events: Counter[str] = msgspec.field(default_factory=Counter)
    #: The longest time in which an order was answered 202, in seconds.
    slowest_accepted_s: float = 0.0
    late: list[str] = []
    #: Lines, by process and event, that tell what nobody should know.
    leaks: list[str] = []
    relays_died_leading: int = 0


_LINE = msgspec.json.Decoder(Line)
#: Events whose facts count too.
_TELLING = {
    b"http_request",
    b"transaction.retried",
    b"recorder.waiting",
    b"outbox.rung_again",
    b"finish.refused",
    b"bell.duplicate",
}


def what_was_said(log: Path, secrets: Sequence[str]) -> Said:
    """Linear in the length of the log, in constant memory."""
    said = Said()
    needles = [_ADDRESS, *(secret.encode() for secret in secrets)]
    leading = b""
    with log.open("rb") as lines:
        while chunk := lines.readlines(_CHUNK):
            _find_leaks(said, chunk, needles)
            for line in chunk:
                if (event := _EVENT.search(line)) is not None:
                    leading = line[:7] if event[1] == b"outbox.rung" else leading
                    _count(said, event[1], line)
                elif (died := _RELAY_DIED.match(line)) is not None:
                    said.relays_died_leading += died[1] == leading
    return said


def _find_leaks(said: Said, chunk: Sequence[bytes], needles: Sequence[bytes]) -> None:
    whole = b"".join(chunk)
    for needle in needles:
        if needle in whole and len(said.leaks) < _SHOWN:
            said.leaks += [_named(line) for line in chunk if needle in line][:_SHOWN]


def _named(line: bytes) -> str:
    event = _EVENT.search(line)
    return f"{line.split(b' ')[0].decode()} {event[1].decode() if event else 'in plain words'}"


def _count(said: Said, event: bytes, line: bytes) -> None:
    said.events[event.decode()] += 1
    if event not in _TELLING:
        return
    try:
        told = _LINE.decode(line.partition(b"| ")[2])
    except msgspec.DecodeError:
        return  # cut off by a kill
    if event == b"http_request":
        _time(said, told)
    elif event in {b"outbox.rung_again", b"finish.refused", b"bell.duplicate"}:
        said.events[f"{event.decode()} in all"] += told.rows + told.jobs
    else:
        said.events[f"{event.decode()} {told.sqlstate or told.error}"] += 1


def _time(said: Said, told: Line) -> None:
    if told.statusCode == 202 and told.method == "POST" and told.route.rstrip("/").endswith("/orders"):
        took_s = told.duration / 1_000
        said.slowest_accepted_s = max(said.slowest_accepted_s, took_s)
        if took_s > LATEST_S:
            said.late.append(f"an order was answered 202 after {took_s:.1f} s")
