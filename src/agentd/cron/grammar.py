"""The grammar of Debian's crontab(5)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct


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
