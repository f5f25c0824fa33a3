"""When a schedule fires next, on clocks that change.

croniter searches for days and nothing else. It reads far more than crontab(5) allows, and some of
it differently, so it is only shown plain lists of numbers made by the parser; and it searches
without a zone, so that what happens when clocks change is decided here. The times of a day need no
search, which would take most of the time. Its import is slow, hence inside the one function that
uses it.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from .grammar import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINUTE: Final = timedelta(minutes=1)

_SCAN_STEP: Final = timedelta(days=1)
"""No zone changes its offset twice within a day and ends where it began."""

LAST_YEAR: Final = 9000
"""No search goes on behind it: Python's calendar ends with 9999, and croniter looks half a century
ahead."""


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
