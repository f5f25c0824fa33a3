"""Why a fire is when it is, where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agentd import cron

BERLIN = ZoneInfo("Europe/Berlin")
GAP = datetime(2026, 3, 28, 12, tzinfo=UTC)
OVERLAP = datetime(2026, 10, 24, 12, tzinfo=UTC)


def notes(text: str, after: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str | None]:
    schedule, found = cron.parse(text), []
    for _ in range(count):
        after = cron.next_fire(schedule, after, zone)
        found.append(cron.note(schedule, after, zone))
    return found


@pytest.mark.contract("SCH-17")
def test_a_time_that_does_not_exist() -> None:
    first, second = notes("30 2 * * *", GAP, 2)
    assert first is not None
    assert first.startswith("the clock goes from 02:00 to 03:00: its time does not exist")
    assert second is None


@pytest.mark.contract("SCH-17")
def test_a_gap_at_midnight_and_one_of_half_an_hour() -> None:
    (midnight,) = notes(
        "0 0 * * *", datetime(2024, 9, 7, 12, tzinfo=UTC), 1, ZoneInfo("America/Santiago")
    )
    (half,) = notes(
        "15 2 * * *", datetime(2026, 10, 3, tzinfo=UTC), 1, ZoneInfo("Australia/Lord_Howe")
    )
    assert midnight is not None
    assert half is not None
    assert ("from 00:00 to 01:00" in midnight, "from 02:00 to 02:30" in half) == (True, True)


@pytest.mark.contract("SCH-18")
def test_a_time_that_comes_twice() -> None:
    first, second = notes("30 2 * * *", OVERLAP, 2)
    assert first == "02:30 comes twice on this day; it fires the first time"
    assert second is None


@pytest.mark.contract("SCH-18")
def test_a_rhythm_through_the_hour_that_comes_twice() -> None:
    found = notes("30 * 25 10 *", datetime(2026, 10, 24, 23, 0, tzinfo=UTC), 4)
    assert found == [
        None,
        "02:30 comes twice on this day; this is the first time",
        "02:30 comes twice on this day; this is the second time",
        None,
    ]


def test_an_ordinary_day_needs_no_word() -> None:
    assert notes("*/15 * * * *", datetime(2026, 6, 1, tzinfo=UTC), 20) == [None] * 20
