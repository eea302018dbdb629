"""A schedule ticks when the clock on the wall says so, through every change of that clock; late ticks as told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.schedules.schedule_rules import (
    GRACE,
    MOST_PER_PASS,
    Calendar,
    CatchUp,
    UnreadableCalendar,
    firing_of,
    read_calendar,
)

#: Zones whose clocks change by an hour, by half an hour, at midnight, below Greenwich, and never.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Atlantic/Azores",
    "America/St_Johns",
    "Asia/Kolkata",
    "UTC",
]
MINUTE = timedelta(minutes=1)
SPRING_2026, AUTUMN_2026 = "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"  # the day before, in Berlin

zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
minutes = st.lists(st.integers(0, 59), min_size=1, max_size=3).map(lambda some: ",".join(map(str, some)))
hours = st.lists(st.integers(0, 23), min_size=1, max_size=3).map(lambda some: ",".join(map(str, some)))
fixed_times = st.tuples(minutes, hours).map(lambda fields: f"{fields[0]} {fields[1]} * * *")
intervals = st.one_of(
    st.sampled_from(["*", "*/5", "*/7", "*/20"]).flatmap(lambda every: hours.map(lambda hour: f"{every} {hour} * * *")),
    minutes.flatmap(lambda minute: st.sampled_from(["*", "*/3"]).map(lambda every: f"{minute} {every} * * *")),
)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def changes(zone: str) -> list[datetime]:
    """The minutes in which the zone's clock changes, in the years that are tested."""
    hour, found = datetime(2024, 1, 1, tzinfo=UTC), []
    while hour.year < 2028:
        if _offset(hour, zone) != _offset(hour + timedelta(hours=1), zone):
            found.append(next(m for n in range(61) if _offset(m := hour + n * MINUTE, zone) != _offset(hour, zone)))
        hour += timedelta(hours=1)
    return found


def _offset(at: datetime, zone: str) -> timedelta | None:
    return at.astimezone(ZoneInfo(zone)).utcoffset()


CHANGES = {zone: changes(zone) for zone in ZONES}


@st.composite
def moments_near_a_change(draw: st.DrawFn, zone: str) -> datetime:
    if not CHANGES[zone]:
        return draw(moments)
    return draw(st.sampled_from(CHANGES[zone])) + timedelta(seconds=draw(st.integers(-50_000, 50_000)))


def matches(cron: str, shown: datetime) -> bool:
    minute, hour = cron.split()[:2]
    return _within(minute, shown.minute) and _within(hour, shown.hour)


def _within(field: str, value: int) -> bool:
    every, _, step = field.partition("/")
    return value % int(step or 1) == 0 if every == "*" else str(value) in field.split(",")


def shown_by_minutes(cron: str, zone: str, since: datetime, hours_: int) -> list[datetime]:
    """The ticks after `since`, found by looking at the clock on the wall every minute: the law, told another way."""
    is_fixed = not any(field.startswith("*") for field in cron.split()[:2])
    first = since.replace(second=0, microsecond=0) + MINUTE
    ticks = []
    for tick in (first + n * MINUTE for n in range(hours_ * 60)):
        wall, before = tick.astimezone(ZoneInfo(zone)), (tick - MINUTE).astimezone(ZoneInfo(zone))
        shown, last = wall.replace(tzinfo=None), before.replace(tzinfo=None)
        skipped = [last + n * MINUTE for n in range(1, int((shown - last) / MINUTE))]
        if is_fixed:
            is_tick = (wall.fold == 0 and matches(cron, shown)) or any(matches(cron, one) for one in skipped)
        else:
            is_tick = matches(cron, shown)
        if is_tick:
            ticks.append(tick)
    return ticks


@given(st.data(), zones, st.one_of(fixed_times, intervals))
def test_the_ticks_are_what_somebody_sees_who_looks_at_the_clock_every_minute(
    data: st.DataObject, zone: str, cron: str
) -> None:
    since = data.draw(moments_near_a_change(zone))
    expected = shown_by_minutes(cron, zone, since, hours_=30)
    assert list(islice(read_calendar(cron, zone).ticks_after(since), len(expected))) == expected


@given(st.data(), zones, st.one_of(fixed_times, intervals))
def test_walking_from_tick_to_tick_is_the_same_as_walking_on(data: st.DataObject, zone: str, cron: str) -> None:
    calendar, at = read_calendar(cron, zone), data.draw(moments_near_a_change(zone))
    for tick in islice(calendar.ticks_after(at), 20):
        assert tick > at
        assert tick.tzinfo is UTC
        assert calendar.next_after(at) == tick
        at = tick


@given(zones, moments)
def test_a_daily_job_runs_once_a_day_in_every_zone(zone: str, since: datetime) -> None:
    ticks = islice(read_calendar("30 2 * * *", zone).ticks_after(since), 400)
    days = [tick.astimezone(ZoneInfo(zone)).date() for tick in ticks]
    assert all(later - day == timedelta(days=1) for day, later in pairwise(days))


@given(st.data(), zones)
def test_an_interval_keeps_its_length_through_every_change(data: st.DataObject, zone: str) -> None:
    ticks = islice(read_calendar("*/15 * * * *", zone).ticks_after(data.draw(moments_near_a_change(zone))), 100)
    assert {later - tick for tick, later in pairwise(ticks)} == {timedelta(minutes=15)}


@pytest.mark.parametrize(
    ("zone", "cron", "since", "local"),
    [
        ("Europe/Berlin", "30 2 * * *", SPRING_2026, ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("Europe/Berlin", "0,30 2,3 * * *", SPRING_2026, ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"]),
        ("Europe/Berlin", "*/30 2 * * *", SPRING_2026, ["03-30 02:00+0200", "03-30 02:30+0200"]),
        ("Europe/Berlin", "30 2 * * *", AUTUMN_2026, ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T01:10:00Z", ["10-26 02:30+0100"]),
        ("Europe/Berlin", "30 */2 * * *", "2026-10-25T00:00:00Z", ["10-25 02:30+0200", "10-25 02:30+0100"]),
        ("America/New_York", "30 2 * * *", "2026-03-08T00:00:00Z", ["03-08 03:00-0400", "03-09 02:30-0400"]),
        ("America/New_York", "30 1 * * *", "2026-11-01T00:00:00Z", ["11-01 01:30-0400", "11-02 01:30-0500"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00Z", ["10-04 02:30+1100", "10-05 02:15+1100"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00Z", ["04-05 01:45+1100", "04-06 01:45+1030"]),
        ("Africa/Cairo", "0 0 * * *", "2026-04-23T12:00:00Z", ["04-24 01:00+0300", "04-25 00:00+0300"]),
    ],
)
def test_what_a_change_of_the_clock_makes_of_a_tick(zone: str, cron: str, since: str, local: list[str]) -> None:
    ticks = islice(read_calendar(cron, zone).ticks_after(moment(since)), len(local))
    assert [f"{tick.astimezone(ZoneInfo(zone)):%m-%d %H:%M%z}" for tick in ticks] == local


@pytest.mark.parametrize(
    ("cron", "zone", "field", "why"),
    [
        ("* * * *", "UTC", "cron", "five fields"),
        ("0 * * * * *", "UTC", "cron", "five fields"),
        ("", "UTC", "cron", "five fields"),
        ("61 * * * *", "UTC", "cron", "bad minute"),
        ("0 0 31 2 *", "UTC", "cron", "bad day-of-month"),
        ("0 0 * 2 1#5/2", "UTC", "cron", "bad day-of-week"),
        ("@reboot", "UTC", "cron", "five fields"),
        ("0 0 * * *", "Europe/Atlantis", "timeZone", "IANA"),
        ("0 0 * * *", "../../etc/passwd", "timeZone", "IANA"),
        ("0 0 * * *", "", "timeZone", "IANA"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field_and_the_reason(
    cron: str, zone: str, field: str, why: str
) -> None:
    with pytest.raises(UnreadableCalendar, match=why) as refused:
        read_calendar(cron, zone)
    assert refused.value.field == field


def test_the_usual_names_are_understood() -> None:
    assert read_calendar("@daily", "UTC") == read_calendar("0 0 * * *", "UTC")
    assert read_calendar(" 0  0 * * * ", "UTC").cron == "0 0 * * *"


def test_a_leap_day_is_found() -> None:
    assert read_calendar("0 0 29 2 *", "UTC").next_after(moment("2028-03-01T00:00:00Z")) == moment(
        "2032-02-29T00:00:00Z"
    )


HOURLY = read_calendar("0 * * * *", "Europe/Berlin")
NOON = moment("2026-06-01T12:00:00Z")


def fired(catch_up: CatchUp, late: timedelta, calendar: Calendar = HOURLY) -> list[datetime]:
    return firing_of(calendar, catch_up, NOON, NOON + late).ticks


@pytest.mark.parametrize("catch_up", CatchUp)
def test_on_time_each_policy_fires_the_tick(catch_up: CatchUp) -> None:
    assert firing_of(HOURLY, catch_up, NOON, NOON + timedelta(seconds=1)).ticks == [NOON]
    assert firing_of(HOURLY, catch_up, NOON, NOON).next_at == NOON + timedelta(hours=1)


def test_skip_drops_what_is_older_than_the_grace() -> None:
    assert fired(CatchUp.SKIP, GRACE) == [NOON]
    assert fired(CatchUp.SKIP, GRACE + timedelta(seconds=1)) == []
    assert fired(CatchUp.SKIP, timedelta(hours=3, seconds=5)) == [NOON + timedelta(hours=3)]


def test_latest_makes_one_run_of_all() -> None:
    assert fired(CatchUp.LATEST, timedelta(hours=3, minutes=30)) == [NOON + timedelta(hours=3)]


def test_all_fires_each_the_oldest_first_and_no_more_than_a_pass_may() -> None:
    assert fired(CatchUp.ALL, timedelta(hours=3, minutes=30)) == [NOON + timedelta(hours=n) for n in range(4)]
    firing = firing_of(HOURLY, CatchUp.ALL, NOON, NOON + timedelta(days=365))
    assert len(firing.ticks) == MOST_PER_PASS
    assert firing.next_at == NOON + timedelta(hours=MOST_PER_PASS)


@given(zones, st.one_of(fixed_times, intervals), moments, st.integers(0, 10 * 86_400), st.sampled_from(CatchUp))
def test_a_pass_fires_only_ticks_that_came_and_leaves_no_tick_for_twice(
    zone: str, cron: str, since: datetime, late_s: int, catch_up: CatchUp
) -> None:
    calendar = read_calendar(cron, zone)
    next_at = calendar.next_after(since)
    now = next_at + timedelta(seconds=late_s)
    firing = firing_of(calendar, catch_up, next_at, now)
    came = list(takewhile(lambda tick: tick <= now, calendar.ticks_after(since)))
    expected = {
        CatchUp.ALL: came[:MOST_PER_PASS],
        CatchUp.LATEST: came[-1:],
        CatchUp.SKIP: [tick for tick in came[-1:] if tick >= now - GRACE],
    }
    assert firing.ticks == expected[catch_up]
    assert firing.next_at == calendar.next_after(came[MOST_PER_PASS - 1] if firing.next_at <= now else now)
    assert firing.next_at > max(firing.ticks, default=since)


def test_a_long_outage_of_a_busy_schedule_is_judged_without_walking_through_it() -> None:
    """Ten years of minutes are five million ticks."""
    every_minute = read_calendar("* * * * *", "Europe/Berlin")
    asked = 0

    class Counted(Calendar, frozen=True):
        def ticks_after(self, moment: datetime) -> Iterator[datetime]:
            nonlocal asked
            for tick in super().ticks_after(moment):
                asked += 1
                yield tick

    firing = firing_of(Counted(every_minute.cron, every_minute.zone), CatchUp.LATEST, NOON, NOON + timedelta(days=3650))
    assert firing.ticks == [NOON + timedelta(days=3650)]
    assert asked < 100
