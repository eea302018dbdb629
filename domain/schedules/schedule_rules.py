"""When a schedule's ticks come, and which of them still run when the scheduler is late. Pure: the clock is handed in.

The expression is that of cron, five fields, read in an IANA time zone by the rules of Debian's cron:

- Fixed times (neither minute nor hour starts with `*`): once for each matching time on the clock on the wall. One that
  a clock put forward skips comes right after the gap, together with its neighbours there; one that a clock put back
  repeats comes the first time only.
- Intervals (minute or hour starts with `*`): whenever the wall shows a matching time, so twice where it is repeated and
  not at all where it is skipped. `*/15 * * * *` is every 900 s, always.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

#: With `skip`, a tick counts as missed when nobody has fired it for so long: a scheduler that restarts takes less.
GRACE = timedelta(seconds=60)
#: With `all`, how many ticks one pass fires; the next pass goes on.
MOST_PER_PASS = 1_000
#: No clock on a wall was ever put back by more.
_LONGEST_FOLD = timedelta(hours=3)

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class UnreadableCalendar(Exception):
    """This is no expression, or no time zone that this machine knows. `field` says which of the two."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class CatchUp(StrEnum):
    """What becomes of ticks that passed while no scheduler ran."""

    SKIP = "skip"  # they are dropped; the next tick runs
    LATEST = "latest"  # one run stands for all of them
    ALL = "all"  # each runs, the oldest first


class Firing(msgspec.Struct, frozen=True):
    """What a late or punctual pass has to do: the ticks that run now, oldest first, and when the next one is due."""

    ticks: list[datetime]
    next_at: datetime


class Calendar(msgspec.Struct, frozen=True):
    """A cron expression in a time zone, known to be readable and to have ticks."""

    cron: str
    zone: ZoneInfo

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """Every tick after `moment`, in order, in UTC."""
        fixed = not any(field.startswith("*") for field in self.cron.split()[:2])
        latest = moment
        for tick in self._fixed_times(moment) if fixed else self._intervals(moment):
            if tick > latest:
                latest = tick
                yield tick

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after `moment`, in UTC."""
        return next(self.ticks_after(moment))

    def newest_until(self, now: datetime, since: datetime) -> datetime | None:
        """The last tick from `since` to `now`, both included, without walking through all of them."""
        width = timedelta(minutes=1)
        while True:
            start = max(since, now - width)
            within = takewhile(lambda tick: tick <= now, self.ticks_after(start - timedelta(microseconds=1)))
            if newest := max(within, default=None):
                return newest
            if start == since:
                return None
            width *= 4

    def _fixed_times(self, moment: datetime) -> Iterator[datetime]:
        for shown in CronSim(self.cron, self._shown_at(moment)):
            real = shown
            while (tick := self._at(real, 0)) is None:
                real += timedelta(minutes=1)
            yield tick

    def _intervals(self, moment: datetime) -> Iterator[datetime]:
        """What the wall shows a second time is out of its order: it waits in a heap for its turn."""
        pending: list[datetime] = []
        for shown in CronSim(self.cron, self._shown_at(moment) - self._fold_near(moment)):
            if (first := self._at(shown, 0)) is None:
                continue
            while pending and pending[0] < first:
                yield heappop(pending)
            heappush(pending, first)
            if (second := self._at(shown, 1)) is not None and second != first:
                heappush(pending, second)

    def _fold_near(self, moment: datetime) -> timedelta:
        """How far back the wall may show what follows `moment`: 0 unless the clock is put back about then."""
        before, after = (self._offset_at(moment + away) for away in (-_LONGEST_FOLD, _LONGEST_FOLD))
        return _LONGEST_FOLD if before > after else timedelta()

    def _offset_at(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()

    def _shown_at(self, moment: datetime) -> datetime:
        """What the clock on the wall shows then, with no zone."""
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _at(self, shown: datetime, fold: int) -> datetime | None:
        """The moment at which the wall shows this, for the first (0) or second (1) time; None when it never does."""
        moment = shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
        return moment if self._shown_at(moment) == shown else None


def read_calendar(cron: str, time_zone: str) -> Calendar:
    """The calendar, or UnreadableCalendar. An expression that no day ever matches is refused as well."""
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise UnreadableCalendar(
            "timeZone", f"{time_zone!r} is no IANA time zone known here, such as Europe/Berlin"
        ) from None
    fields = _ALIASES.get(cron.strip().lower(), cron).split()
    if len(fields) != 5:
        raise UnreadableCalendar(
            "cron", f"{cron!r} has to have five fields: minute hour day-of-month month day-of-week"
        )
    calendar = Calendar(" ".join(fields), zone)
    try:
        calendar.next_after(datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise UnreadableCalendar("cron", f"{cron!r} cannot be read: {str(error).lower()}") from None
    except StopIteration:
        raise UnreadableCalendar("cron", f"{cron!r} never comes") from None
    return calendar


def firing_of(calendar: Calendar, catch_up: CatchUp, next_at: datetime, now: datetime) -> Firing:
    """What a pass at `now` does for a schedule whose first unfired tick is `next_at`, which is not later than `now`.

    With `skip`, a tick at most GRACE late still runs, the newest alone. With `all`, at most MOST_PER_PASS run; then the
    next one is due at once.
    """
    if catch_up is CatchUp.ALL:
        ticks = _ticks_within(calendar, next_at, now)
        return Firing(ticks, calendar.next_after(ticks[-1] if ticks else now))
    since = next_at if catch_up is CatchUp.LATEST else max(next_at, now - GRACE)
    newest = calendar.newest_until(now, since)
    return Firing([] if newest is None else [newest], calendar.next_after(now))


def _ticks_within(calendar: Calendar, first: datetime, last: datetime) -> list[datetime]:
    ticks = calendar.ticks_after(first - timedelta(microseconds=1))
    return list(islice(takewhile(lambda tick: tick <= last, ticks), MOST_PER_PASS))
