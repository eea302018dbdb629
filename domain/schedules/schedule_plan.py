"""A schedule as somebody wants it: checked whole before it is kept, and whatever does not fit is named by its field."""

import re
from datetime import datetime
from typing import Any

import msgspec

from domain.errors import ScheduleInvalid, Violation
from domain.jobs.kind import KINDS, JobKind
from domain.schedules.schedule_rules import Calendar, CatchUp, UnreadableCalendar, read_calendar

#: The payload's field that the scheduler fills in: the moment that the calendar named, however late the job runs.
TICK = "tick"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ANY_MOMENT = datetime.fromisoformat("2024-01-01T00:00:00Z")


class PlannedSchedule(msgspec.Struct, frozen=True):
    """A schedule that fits: its kind is known, its arguments are the kind's, its calendar has ticks."""

    name: str
    kind: str
    args: dict[str, Any]
    calendar: Calendar
    catch_up: CatchUp

    def row(self) -> dict[str, Any]:
        """Its columns."""
        words = {"name": self.name, "kind": self.kind, "args": self.args, "cron": self.calendar.cron}
        return {**words, "time_zone": self.calendar.zone.key, "catch_up": self.catch_up.value}


def plan_schedule(
    *, name: str, kind: str, args: dict[str, Any], cron: str, time_zone: str, catch_up: CatchUp
) -> PlannedSchedule:
    """The schedule, or ScheduleInvalid with everything that is wrong with it, field by field."""
    wrong = [] if _NAME.fullmatch(name) else [Violation("name", "up to 63 of a-z, 0-9, dot, dash and underscore")]
    if kind in KINDS:
        wrong += _misfits(KINDS[kind], args)
    else:
        wrong.append(Violation("kind", f"{kind!r} is not a kind; the kinds are {', '.join(sorted(KINDS))}"))
    try:
        calendar = read_calendar(cron, time_zone)
    except UnreadableCalendar as error:
        raise ScheduleInvalid(violations=[*wrong, Violation(error.field, str(error))]) from error
    if wrong:
        raise ScheduleInvalid(violations=wrong)
    return PlannedSchedule(name, kind, args, calendar, catch_up)


def args_at(kind: JobKind, args: dict[str, Any], tick: datetime) -> Any:
    """The payload of the job of one tick. Raises msgspec.ValidationError when the arguments fit the kind no more."""
    return kind.decode({**args, TICK: tick} if TICK in kind.payload.__struct_fields__ else args)


def _misfits(kind: JobKind, args: dict[str, Any]) -> list[Violation]:
    if TICK in args:
        return [Violation("args", f"{TICK} is filled in by the scheduler")]
    if unknown := sorted(set(args) - set(kind.payload.__struct_encode_fields__)):
        return [Violation("args", f"{kind.name} has no {', '.join(unknown)}")]
    try:
        args_at(kind, args, _ANY_MOMENT)
    except msgspec.ValidationError as error:
        return [Violation("args", str(error))]
    return []
