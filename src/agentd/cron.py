"""Schedules: the grammar of Debian's crontab(5), and when a schedule fires next. Pure.

croniter searches for days and nothing else. It reads far more than crontab(5) allows, and some of
it differently, so it is only shown plain lists of numbers made by the parser here; and it searches
without a zone, so that what happens when clocks change is decided here. The times of a day need no
search, which would take most of the time. Its import is slow, hence inside the one function that
uses it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Field(NamedTuple):
    label: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)

_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_ITEM: Final = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[0-9]{1,4}|[A-Za-z]+)(?:-(?P<last>[0-9]{1,4}|[A-Za-z]+))?)"
    r"(?:/(?P<step>[0-9]{1,4}))?"
)

_LONGEST_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SUNDAY_AGAIN: Final = 7
_MINUTE: Final = timedelta(minutes=1)

_SCAN_STEP: Final = timedelta(days=1)
"""No zone changes its offset twice within a day and ends where it began."""

LAST_YEAR: Final = 9000
"""No search goes on behind it: Python's calendar ends with 9999, and croniter
looks half a century ahead."""


class Schedule(Struct, frozen=True):
    """A parsed expression: the values that each field allows, and how they are to be read.

    `either_day` is crontab(5)'s rule for days: when both day fields are restricted, a day that
    fits one of them is enough; a field that begins with `*` counts as unrestricted, and then the
    day must fit both. `fixed` says that neither minute nor hour begins with `*`: such a schedule
    means a time of day, every other one means a rhythm.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool
    fixed: bool


def parse(text: str) -> Schedule:
    """Read an expression of five fields, or one of crontab(5)'s nicknames but `@reboot`.

    Raises:
        ValueError: it is no such expression, or no day will ever fit it; the message is a clause.
    """
    fields = _split(text)
    minutes, hours, days, months, weekdays = (
        _values(field, part) for field, part in zip(_FIELDS, fields, strict=True)
    )
    schedule = Schedule(
        text=text,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=tuple(sorted({day % _SUNDAY_AGAIN for day in weekdays})),
        either_day=not (fields[2].startswith("*") or fields[4].startswith("*")),
        fixed=not (fields[0].startswith("*") or fields[1].startswith("*")),
    )
    if not _ever_fires(schedule):
        raise ValueError("it never fires: none of its months has any of its days")
    return schedule


def next_fire(schedule: Schedule, after: datetime, zone: ZoneInfo) -> datetime:
    """The first of the `fires`. Each call is a search of its own: who wants more goes on with one.

    Raises:
        OverflowError: it lies behind `LAST_YEAR`.
    """
    return next(fires(schedule, after, zone))


def fires(schedule: Schedule, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The instants strictly after `after` at which `schedule` fires in `zone`, in order, in UTC.

    UTC, because Python compares and subtracts two times of one zone by their wall clocks, which
    is wrong in the hour that repeats. `after` must be aware.

    When clocks go forward, a fixed schedule whose times are skipped fires once, at the instant
    the gap ends. When they go back it fires at the first of two equal times. Other schedules
    follow real time: they fire in both passes, and not for times that do not exist.

    Iterating raises:
        OverflowError: the next one lies behind `LAST_YEAR`.
    """
    moment = after.astimezone(UTC)
    return (_fixed_fires if schedule.fixed else _real_fires)(schedule, moment, zone)


def matches(schedule: Schedule, local: datetime) -> bool:
    """Whether a wall-clock time is one that the fields of `schedule` name, to the minute."""
    in_month = local.day in schedule.days
    in_week = local.isoweekday() % _SUNDAY_AGAIN in schedule.weekdays
    day_fits = (in_month or in_week) if schedule.either_day else (in_month and in_week)
    return (
        day_fits
        and local.minute in schedule.minutes
        and local.hour in schedule.hours
        and local.month in schedule.months
    )


# --- grammar -------------------------------------------------------------------------------------


def _split(text: str) -> list[str]:
    fields = text.strip(" \t")
    if fields.startswith("@"):
        if fields not in _NICKNAMES:
            raise ValueError(f"{fields!r} is not one of {', '.join(_NICKNAMES)}")
        fields = _NICKNAMES[fields]
    parts = [part for part in re.split(r"[ \t]+", fields) if part]
    if len(parts) != len(_FIELDS):
        wanted = ", ".join(field.label for field in _FIELDS)
        raise ValueError(f"it has {len(parts)} fields and must have five: {wanted}")
    return parts


def _values(field: _Field, part: str) -> tuple[int, ...]:
    return tuple(sorted({value for item in part.split(",") for value in _item(field, item)}))


def _item(field: _Field, item: str) -> range:
    """What one element of a list allows: `*`, `a`, `a-b`, and a step after all but `a`."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"{item!r} is not crontab(5) syntax for the {field.label}")
    step = int(match["step"] or 1)
    if step == 0:
        raise ValueError(f"the step of {item!r} in the {field.label} must be at least 1")
    if match["all"]:
        return range(field.low, field.high + 1, step)
    first = _number(field, match["first"])
    if match["last"] is None:
        if match["step"]:
            raise ValueError(
                f"the step in {item!r} needs a range before it: write"
                f" '{first}-{field.high}/{step}' or '*/{step}' for the {field.label}"
            )
        return range(first, first + 1)
    last = _number(field, match["last"])
    if last < first:
        raise ValueError(
            f"the range {item!r} in the {field.label} runs backwards: write it as two ranges"
        )
    return range(first, last + 1, step)


def _number(field: _Field, text: str) -> int:
    if not text.isdigit():
        if text.lower() not in field.names:
            raise ValueError(f"{text!r} is not a {field.label}")
        return field.names.index(text.lower()) + (1 if field.names is _MONTHS else 0)
    if not field.low <= int(text) <= field.high:
        raise ValueError(f"{text} is not a {field.label}: use {field.low} to {field.high}")
    return int(text)


def _ever_fires(schedule: Schedule) -> bool:
    """Every date falls on every weekday in some year, so only month and day can contradict."""
    if schedule.either_day:
        return True
    return any(_LONGEST_MONTH[month - 1] >= schedule.days[0] for month in schedule.months)


# --- clocks --------------------------------------------------------------------------------------


def _fixed_fires(schedule: Schedule, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    for candidate in _candidates(schedule, _wall(after, zone)):
        fire = _instant(candidate, zone)
        if fire > after:
            yield fire
            after = fire


def _real_fires(schedule: Schedule, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Search within one offset, and from the start of the next one if that comes first."""
    change: datetime | None = after
    begin = _wall(after, zone)
    while change is not None:
        segment, change = change, None
        offset = _offset(segment, zone)
        for candidate in _candidates(schedule, begin):
            fire = candidate - offset
            if fire <= after:
                continue
            if change := _offset_change(zone, segment, fire):
                # One minute earlier: the search is strict and the change may itself be due.
                begin = _wall(change, zone) - _MINUTE
                break
            yield fire
            segment = after = fire


def _candidates(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The wall-clock times, in UTC's clothes, that the fields name strictly after `after`."""
    today = after.replace(hour=0, minute=0, second=0, microsecond=0)
    now = (after.hour, after.minute)
    for day in _days(schedule, today - _MINUTE):
        hours = schedule.hours
        if day == today:
            hours = hours[bisect_left(hours, after.hour) :]
        for hour in hours:
            for minute in schedule.minutes:
                if day != today or (hour, minute) > now:
                    yield day.replace(hour=hour, minute=minute)


def _days(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The days, as their midnights, that the fields name strictly after `after`."""
    from croniter import croniter  # noqa: PLC0415  slow to import, and `agentd --version` needs none

    days, months, weekdays = (
        # A full list is slow to read, and to croniter a `*` like any other.
        "*" if len(values) == most else ",".join(map(str, values))
        for values, most in ((schedule.days, 31), (schedule.months, 12), (schedule.weekdays, 7))
    )
    either = schedule.either_day
    if either and "*" in (days, weekdays):
        # One of the two fits every day; "either" would mean "both" to croniter.
        days = weekdays = "*"
    search = croniter(f"0 0 {days} {months} {weekdays}", after, day_or=either)
    while (day := search.get_next(datetime)).year <= LAST_YEAR:
        yield day
    raise OverflowError(f"'{schedule.text}' does not fire again up to the year {LAST_YEAR}")


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows, labelled as UTC so that arithmetic on it is plain."""
    return moment.astimezone(zone).replace(tzinfo=UTC, fold=0)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clock shows `wall` for the first time, or when the gap that swallows it ends."""
    fire = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(fire, zone) == wall:
        return fire
    # In a gap the two folds stand for the offsets before and after it, PEP 495.
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    change = _offset_change(zone, early, fire)
    assert change is not None
    return change


def _offset_change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first instant in (after, until] with another offset than at `after`, to the second."""
    offset = _offset(after, zone)
    before = after
    while before < until:
        step = min(before + _SCAN_STEP, until)
        if _offset(step, zone) != offset:
            return _bisect(zone, before, step)
        before = step
    return None


def _bisect(zone: ZoneInfo, before: datetime, changed: datetime) -> datetime:
    offset = _offset(before, zone)
    low, high = int(before.timestamp()), int(changed.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
