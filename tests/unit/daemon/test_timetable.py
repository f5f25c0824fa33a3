"""Which agent is due, on any clock: late looks, and clocks that are set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agentd import cron
from agentd.daemon.timetable import MOST_COUNTED, Fire, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
QUARTERS = "*/15 * * * *"
THREE = "0 3 * * *"


def at(text: str) -> datetime:
    """A time in Berlin, as the instant that it is."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def table(start: str, **schedules: str) -> Timetable:
    made = Timetable(BERLIN)
    for agent, text in schedules.items():
        made.add(agent, cron.parse(text), at(start))
    return made


def due(made: Timetable, now: datetime) -> list[Fire]:
    fires = []
    while fire := made.take_due(now):
        fires.append(fire)
    return fires


@pytest.mark.contract("SCH-01", "SCH-02")
def test_nothing_is_due_before_its_time() -> None:
    made = table("2026-01-05 12:01", a=QUARTERS)
    assert due(made, at("2026-01-05 12:14")) == []
    assert made.next_at == at("2026-01-05 12:15")


@pytest.mark.contract("SCH-12")
def test_a_start_on_an_occurrence_fires_at_once_and_only_once() -> None:
    made = table("2026-01-05 12:15", a=QUARTERS)
    assert due(made, at("2026-01-05 12:15")) == [Fire("a", at("2026-01-05 12:15"), 0)]
    assert due(made, at("2026-01-05 12:15") + timedelta(seconds=59)) == []


@pytest.mark.contract("SCH-10")
def test_what_lay_before_the_start_never_fires() -> None:
    made = table("2026-01-05 12:15:01", a=QUARTERS)
    assert made.next_at == at("2026-01-05 12:30")


@pytest.mark.contract("SCH-13", "SCH-14")
def test_agents_that_are_due_together_fire_in_the_order_of_the_configuration() -> None:
    made = table("2026-01-05 12:01", z=QUARTERS, later="20 * * * *", a="15 * * * *", m=QUARTERS)
    now = at("2026-01-05 12:15")
    assert [fire.agent for fire in due(made, now)] == ["z", "a", "m"]
    assert made.next_at == at("2026-01-05 12:20")


@pytest.mark.contract("SCH-11")
def test_a_late_look_fires_once_for_the_last_instant_and_counts_the_others() -> None:
    made = table("2026-01-05 12:01", a=QUARTERS)
    now = at("2026-01-05 13:07")
    assert due(made, now) == [Fire("a", at("2026-01-05 13:00"), 3)]
    assert made.next_at == at("2026-01-05 13:15")


@pytest.mark.contract("SCH-11")
def test_after_a_pause_of_years_the_next_fire_lies_in_the_future() -> None:
    made = table("2026-01-05 12:01", a="* * * * *")
    assert due(made, at("2029-01-05 12:00:30")) == [Fire("a", at("2029-01-05 12:00"), MOST_COUNTED)]
    assert made.next_at == at("2029-01-05 12:01")


@pytest.mark.contract("SCH-11")
def test_the_last_instant_is_found_however_long_ago_it_was() -> None:
    made = table("2026-01-05 12:01", a="* * 6 1 *")
    assert due(made, at("2026-12-24 12:00")) == [Fire("a", at("2026-01-06 23:59"), MOST_COUNTED)]
    assert made.next_at == at("2027-01-06 00:00")


def test_a_long_pause_costs_no_more_searches_than_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = table("2026-01-05 12:01", **{f"a{number}": "* * * * *" for number in range(10)})
    searched: list[datetime] = []
    fires = cron.fires

    def counting(schedule: cron.Schedule, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        for fire in fires(schedule, after, zone):
            searched.append(fire)
            yield fire

    monkeypatch.setattr(cron, "fires", counting)
    due(made, at("2026-01-08 12:01"))
    assert len(searched) < 10 * (MOST_COUNTED + 10)


def test_an_agent_that_is_dropped_is_not_due_any_more() -> None:
    made = table("2026-01-05 12:01", a=QUARTERS, b=QUARTERS)
    assert made.drop_first() == Fire("a", at("2026-01-05 12:15"), 0)
    set_back(made, "2026-01-05 12:10", "2026-01-05 11:50")
    assert [fire.agent for fire in due(made, at("2026-01-05 12:00"))] == ["b"]
    assert [*made.next_fires()] == ["b"]


def test_a_clock_that_is_set_forward_is_a_late_look() -> None:
    made = table("2026-01-05 12:01", a=THREE)
    assert due(made, at("2026-01-06 09:00")) == [Fire("a", at("2026-01-06 03:00"), 0)]
    assert made.next_at == at("2026-01-07 03:00")


def set_back(made: Timetable, before: str, now: str) -> None:
    for position in range(len(made)):
        made.set_back(position, at(now), at(before) - at(now))


def test_a_rhythm_follows_a_clock_that_is_set_back() -> None:
    made = table("2026-01-05 12:01", a=QUARTERS)
    due(made, at("2026-01-05 12:15"))
    set_back(made, "2026-01-05 12:20", "2026-01-05 11:50")
    assert made.next_at == at("2026-01-05 12:00")


def test_a_time_of_day_does_not_fire_again_when_the_clock_is_set_back_a_little() -> None:
    made = table("2026-01-05 02:00", a=THREE)
    due(made, at("2026-01-05 03:00"))
    set_back(made, "2026-01-05 03:10", "2026-01-05 02:50")
    assert made.next_at == at("2026-01-06 03:00")


def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule() -> None:
    made = table("2031-01-05 12:00", a=THREE)
    set_back(made, "2031-01-05 12:00", "2026-01-05 12:00")
    assert made.next_at == at("2026-01-06 03:00")


def test_what_was_overtaken_when_the_clock_was_set_back_does_not_fire_too() -> None:
    made = table("2026-01-05 12:01", a=QUARTERS)
    set_back(made, "2026-01-05 12:10", "2026-01-05 11:00")
    fires = [due(made, at(f"2026-01-05 {time}")) for time in ("11:15", "11:30", "12:15")]
    assert [[fire.missed for fire in each] for each in fires] == [[0], [0], [2]]


@pytest.mark.contract("SCH-19")
def test_without_a_schedule_nothing_is_ever_due() -> None:
    made = Timetable(BERLIN)
    assert (made.next_at, made.take_due(at("2026-01-05 12:00"))) == (None, None)


@pytest.mark.contract("SCH-18")
def test_an_hour_that_repeats_fires_a_time_of_day_once_and_a_rhythm_in_both() -> None:
    made = table("2026-10-25 00:00", daily="30 2 * * *", rhythm="30 * * * *")
    # One look a minute, through the night on which 02:00 to 03:00 comes twice.
    begin = at("2026-10-25 02:00")
    fires = [fire for minute in range(121) for fire in due(made, begin + timedelta(minutes=minute))]
    assert sorted(fire.agent for fire in fires if not fire.missed) == ["daily", "rhythm", "rhythm"]
