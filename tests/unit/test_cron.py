"""Schedules: their grammar, and when they fire next."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agentd import cron

BERLIN = ZoneInfo("Europe/Berlin")
BEFORE_GAP = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
BEFORE_OVERLAP = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


def fires(
    text: str, after: datetime, count: int, zone: ZoneInfo = BERLIN, form: str = "%d %H:%M%z"
) -> list[str]:
    schedule, found = cron.parse(text), []
    for _ in range(count):
        after = cron.next_fire(schedule, after, zone)
        found.append(after.astimezone(zone).strftime(form))
    return found


# --- grammar -------------------------------------------------------------------------------------


@pytest.mark.contract("SCH-05")
@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("5 * * * *", "minutes", [5]),
        ("05 * * * *", "minutes", [5]),
        ("1,2,50 * * * *", "minutes", [1, 2, 50]),
        ("50,1,1 * * * *", "minutes", [1, 50]),
        ("10-13 * * * *", "minutes", [10, 11, 12, 13]),
        ("7-7 * * * *", "minutes", [7]),
        ("*/20 * * * *", "minutes", [0, 20, 40]),
        ("*/90 * * * *", "minutes", [0]),
        ("10-20/5,59 * * * *", "minutes", [10, 15, 20, 59]),
        ("* 22-23,0-2 * * *", "hours", [0, 1, 2, 22, 23]),
        ("* * 31 * *", "days", [31]),
        ("* * * 1-12/6 *", "months", [1, 7]),
        ("* * * jan,DEC *", "months", [1, 12]),
        ("* * * * 7", "weekdays", [0]),
        ("* * * * 5-7", "weekdays", [0, 5, 6]),
        ("* * * * 0-7/7", "weekdays", [0]),
        ("* * * * Mon-fri", "weekdays", [1, 2, 3, 4, 5]),
        ("* * * * sun", "weekdays", [0]),
        (" 5\t*  * * * ", "minutes", [5]),
    ],
)
def test_a_field_is_read_as_crontab_reads_it(text: str, field: str, values: list[int]) -> None:
    assert list(getattr(cron.parse(text), field)) == values


@pytest.mark.contract("SCH-04")
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_a_nickname_stands_for_its_fields(name: str, fields: str) -> None:
    assert fires(name, START, 3) == fires(fields, START, 3)


@pytest.mark.contract("SCH-03")
@pytest.mark.parametrize(
    "text", ["", " ", "* * *", "* * * * * *", "0 0 0 1 1 * 2026", "*\n* * * *", "* * * *"]
)
def test_an_expression_has_five_fields(text: str) -> None:
    with pytest.raises(ValueError, match="must have five: minute, hour, day of month, month"):
        cron.parse(text)


@pytest.mark.contract("SCH-04", "SCH-05", "F-31")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("22-2 * * * *", "runs backwards"),
        ("0 0 * * fri-sun", "runs backwards"),
        ("*/0 * * * *", "at least 1"),
        ("5/10 * * * *", "needs a range before it"),
        ("60 * * * *", "use 0 to 59"),
        ("* 24 * * *", "use 0 to 23"),
        ("* * 0 * *", "use 1 to 31"),
        ("* * * 13 *", "use 1 to 12"),
        ("* * * * 8", "use 0 to 7"),
        ("* * * foo *", "is not a month"),
        ("jan * * * *", "is not a minute"),
        ("* * L * *", "is not a day of month"),
        ("* * 15W * *", "not crontab"),
        ("* * ? * ?", "not crontab"),
        ("* * * * 1#2", "not crontab"),
        ("* * * * 5L", "not crontab"),
        ("* * * * +1", "not crontab"),
        (", * * * *", "not crontab"),
        ("1,,2 * * * *", "not crontab"),
        ("1- * * * *", "not crontab"),
        ("-1 * * * *", "not crontab"),
        ("*-5 * * * *", "not crontab"),
        ("** * * * *", "not crontab"),
        ("1/ * * * *", "not crontab"),
        ("٣ * * * *", "not crontab"),
        ("R * * * *", "is not a minute"),
        ("@reboot", "is not one of @yearly"),
        ("@Daily", "is not one of @yearly"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 30 2 */2", "never fires"),
    ],
)
def test_what_crontab_does_not_know_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cron.parse(text)


@pytest.mark.contract("SCH-04")
@settings(deadline=None)
@given(st.text() | st.text(alphabet="*/-, 0123456789mon@L?#", max_size=20))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    try:
        schedule = cron.parse(text)
    except ValueError:
        return
    assert cron.next_fire(schedule, START, BERLIN) > START


# --- days ----------------------------------------------------------------------------------------


@pytest.mark.contract("SCH-05")
@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 13 * fri", ["01-02", "01-09", "01-13", "01-16"]),
        ("0 0 13 * *", ["01-13", "02-13", "03-13", "04-13"]),
        ("0 0 * * fri", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 0 */2 * fri", ["01-09", "01-23", "02-13", "02-27"]),
        ("0 0 13 * */2", ["01-13", "06-13", "08-13", "09-13"]),
        ("0 0 1-31 * fri", ["01-02", "01-03", "01-04", "01-05"]),
        ("0 0 13 * 0-6", ["01-02", "01-03", "01-04", "01-05"]),
        ("0 0 30 2 mon", ["02-02", "02-09", "02-16", "02-23"]),
    ],
)
def test_two_restricted_day_fields_are_alternatives_and_a_star_restricts_nothing(
    text: str, days: list[str]
) -> None:
    assert fires(text, START, 4, form="%m-%d") == days


@pytest.mark.contract("SCH-05")
def test_a_leap_day_on_a_sunday_is_waited_for() -> None:
    assert fires("0 0 29 2 */7", START, 3, form="%Y-%m-%d") == [
        "2032-02-29",
        "2060-02-29",
        "2088-02-29",
    ]


@pytest.mark.contract("SCH-05")
def test_a_leap_day_on_a_sunday_is_waited_for_across_a_year_without_one() -> None:
    after = datetime(2088, 3, 1, tzinfo=UTC)
    assert fires("0 0 29 2 */7", after, 1, form="%Y-%m-%d") == ["2128-02-29"]


# --- when clocks change --------------------------------------------------------------------------


@pytest.mark.contract("SCH-17")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["29 03:00+0200", "30 02:30+0200"]),
        ("15,45 2 * * *", ["29 03:00+0200", "30 02:15+0200"]),
        ("0 2-3 * * *", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 3 * * *", ["29 03:00+0200", "30 03:00+0200"]),
    ],
)
def test_a_time_of_day_that_is_skipped_fires_once_when_the_gap_ends(
    text: str, expected: list[str]
) -> None:
    assert fires(text, BEFORE_GAP, 2) == expected


@pytest.mark.contract("SCH-17")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 * * * *", ["28 23:30+0100", "29 00:30+0100", "29 01:30+0100", "29 03:30+0200"]),
        ("*/30 2 * * *", ["30 02:00+0200", "30 02:30+0200", "31 02:00+0200", "31 02:30+0200"]),
    ],
)
def test_a_rhythm_skips_the_times_that_do_not_exist(text: str, expected: list[str]) -> None:
    assert fires(text, BEFORE_GAP, 4) == expected


@pytest.mark.contract("SCH-18")
def test_a_time_of_day_that_comes_twice_fires_the_first_time() -> None:
    assert fires("30 2 * * *", BEFORE_OVERLAP, 2) == ["25 02:30+0200", "26 02:30+0100"]


@pytest.mark.contract("SCH-18", "F-32")
def test_a_daemon_started_in_the_second_pass_does_not_fire_a_time_of_day_again() -> None:
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert fires("30 2 * * *", second_pass, 1) == ["26 02:30+0100"]


@pytest.mark.contract("SCH-18", "F-32")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 * * * *", ["25 02:30+0200", "25 02:30+0100", "25 03:30+0100"]),
        ("*/30 2 * * *", ["25 02:30+0200", "25 02:00+0100", "25 02:30+0100"]),
    ],
)
def test_a_rhythm_goes_on_through_the_repeated_hour(text: str, expected: list[str]) -> None:
    assert fires(text, datetime(2026, 10, 25, 0, 15, tzinfo=UTC), 3) == expected


@pytest.mark.contract("F-32")
def test_the_second_pass_is_seen_even_when_the_next_date_is_a_year_away() -> None:
    after = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)
    assert fires("*/30 2 25 10 *", after, 3, form="%Y %H:%M%z") == [
        "2026 02:00+0100",
        "2026 02:30+0100",
        "2027 02:00+0200",
    ]


@pytest.mark.contract("SCH-17")
@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("0 0 * * *", "America/Santiago", datetime(2024, 9, 7, 12, tzinfo=UTC), "08 01:00-0300"),
        ("0 12 30 12 *", "Pacific/Apia", datetime(2011, 12, 29, 12, tzinfo=UTC), "31 00:00+1400"),
        ("15 2 * * *", "Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC), "04 02:30+1100"),
    ],
)
def test_odd_gaps_end_when_they_end(text: str, zone: str, after: datetime, expected: str) -> None:
    assert fires(text, after, 1, ZoneInfo(zone)) == [expected]


@pytest.mark.contract("SCH-18", "F-32")
@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        # Half an hour: 02:00 is 01:30 again.
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            datetime(2026, 4, 4, 12, tzinfo=UTC),
            ["05 01:45+1100", "06 01:45+1030"],
        ),
        (
            "*/15 1 * * *",
            "Australia/Lord_Howe",
            datetime(2026, 4, 4, 14, tzinfo=UTC),
            ["05 01:15+1100", "05 01:30+1100", "05 01:45+1100", "05 01:30+1030", "05 01:45+1030"],
        ),
        # The first hour of a day: 01:00 is 00:00 again.
        (
            "0 0 * * *",
            "America/Havana",
            datetime(2026, 10, 31, 12, tzinfo=UTC),
            ["01 00:00-0400", "02 00:00-0500"],
        ),
        (
            "30 * * * *",
            "America/Havana",
            datetime(2026, 11, 1, 4, tzinfo=UTC),
            ["01 00:30-0400", "01 00:30-0500", "01 01:30-0500"],
        ),
        # The last hour of a day: midnight is 23:00 again, so the date goes back.
        (
            "30 23 * * *",
            "America/Sao_Paulo",
            datetime(2019, 2, 16, 12, tzinfo=UTC),
            ["16 23:30-0200", "17 23:30-0300"],
        ),
        (
            "0 0 * * *",
            "America/Sao_Paulo",
            datetime(2019, 2, 16, 12, tzinfo=UTC),
            ["17 00:00-0300", "18 00:00-0300"],
        ),
        (
            "*/30 * 16 * *",
            "America/Sao_Paulo",
            datetime(2019, 2, 17, 1, 15, tzinfo=UTC),
            ["16 23:30-0200", "16 23:00-0300", "16 23:30-0300", "16 00:00-0300"],
        ),
    ],
)
def test_odd_repeats_repeat_what_they_repeat(
    text: str, zone: str, after: datetime, expected: list[str]
) -> None:
    assert fires(text, after, len(expected), ZoneInfo(zone)) == expected


@pytest.mark.contract("SCH-02", "SCH-05")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * *", ["2027-12-31 23:40", "2028-01-01 00:00", "2028-01-01 00:20"]),
        ("59 23 31 12 *", ["2027-12-31 23:59", "2028-12-31 23:59", "2029-12-31 23:59"]),
        ("0 0 1 1 *", ["2028-01-01 00:00", "2029-01-01 00:00", "2030-01-01 00:00"]),
        ("0 12 29-31 12,2 *", ["2028-02-29 12:00", "2028-12-29 12:00", "2028-12-30 12:00"]),
        ("0 0 * * fri", ["2028-01-07 00:00", "2028-01-14 00:00", "2028-01-21 00:00"]),
    ],
)
def test_a_year_ends_where_its_zone_ends_it(text: str, expected: list[str]) -> None:
    after = datetime(2027, 12, 31, 22, 30, tzinfo=UTC)
    assert fires(text, after, 3, form="%Y-%m-%d %H:%M") == expected


@pytest.mark.contract("SCH-02")
def test_the_zone_is_the_one_that_is_asked_for() -> None:
    assert cron.next_fire(cron.parse("0 9 * * *"), START, ZoneInfo("Asia/Tokyo")) == datetime(
        2026, 1, 2, 0, 0, tzinfo=UTC
    )


@pytest.mark.contract("SCH-02")
def test_the_zone_of_the_process_plays_no_part() -> None:
    code = (
        "from datetime import *; from zoneinfo import ZoneInfo; from agentd import cron;"
        "print(cron.next_fire(cron.parse('30 2 * * *'), datetime(2026, 3, 8, 5, tzinfo=UTC),"
        " ZoneInfo('UTC')))"
    )
    environ = {**os.environ, "TZ": "America/New_York", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2026-03-09 02:30:00+00:00\n"


# --- in general ----------------------------------------------------------------------------------


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high).map(lambda n: f"/{n}")
    starred = st.just("*") | step.map(lambda s: f"*{s}")
    item = starred | number.map(str) | span | st.tuples(span, step).map("".join)
    return st.lists(item, min_size=1, max_size=2).map(",".join)


SCHEDULES = st.tuples(
    _field(0, 59), _field(0, 23), _field(1, 31), st.just("*") | _field(1, 12), _field(0, 7)
).map(" ".join)
ZONES = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
).map(ZoneInfo)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)) | (
    # Close to the changes of Berlin's and New York's clocks.
    st.sampled_from([(3, 29), (10, 25), (3, 8), (11, 1)]).flatmap(
        lambda day: st.integers(0, 2000).map(
            lambda m: datetime(2026, *day, tzinfo=UTC) + timedelta(minutes=m - 400, seconds=m % 60)
        )
    )
)


def parsed(text: str) -> cron.Schedule:
    try:
        return cron.parse(text)
    except ValueError as error:
        assume("never fires" not in str(error))
        raise


@pytest.mark.contract("SCH-11", "F-32")
@settings(deadline=None)
@given(SCHEDULES, MOMENTS, ZONES)
def test_the_next_fire_is_later_and_fits_the_fields_or_ends_a_gap(
    text: str, after: datetime, zone: ZoneInfo
) -> None:
    schedule = parsed(text)
    fire = cron.next_fire(schedule, after, zone)
    local = fire.astimezone(zone)
    before = (fire - timedelta(seconds=1)).astimezone(zone)
    ends_a_gap = local.utcoffset() != before.utcoffset()
    assert fire > after
    assert cron.matches(schedule, local) or (schedule.fixed and ends_a_gap)
    assert (local.second, local.microsecond) == (0, 0)


@pytest.mark.contract("SCH-05", "SCH-17", "SCH-18")
@settings(max_examples=60, deadline=None)
@given(SCHEDULES, MOMENTS, ZONES)
def test_no_fire_is_left_out_before_the_next_one(
    text: str, after: datetime, zone: ZoneInfo
) -> None:
    """Minute by minute for two days: a rhythm misses nothing; a time of day only second passes."""
    schedule = parsed(text)
    fire = cron.next_fire(schedule, after, zone)
    minute = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    end = min(fire, minute + timedelta(days=2))
    while minute < end:
        local = minute.astimezone(zone)
        skipped = schedule.fixed and local.fold == 1
        assert skipped or not cron.matches(schedule, local)
        minute += timedelta(minutes=1)


@pytest.mark.contract("SCH-05", "SCH-17", "SCH-18")
@settings(deadline=None)
@given(SCHEDULES, MOMENTS, ZONES)
def test_a_search_that_goes_on_finds_what_one_begun_anew_finds(
    text: str, after: datetime, zone: ZoneInfo
) -> None:
    schedule = parsed(text)
    for fire in islice(cron.fires(schedule, after, zone), 5):
        assert fire == cron.next_fire(schedule, after, zone)
        after = fire


@pytest.mark.parametrize("text", ["* * * * *", "0 3 * * *", "0 0 29 2 */7"])
def test_a_search_ends_with_the_years_that_can_be_searched(text: str) -> None:
    after = datetime(cron.LAST_YEAR, 12, 31, 23, 59, tzinfo=UTC)
    with pytest.raises(OverflowError, match="does not fire again up to the year"):
        cron.next_fire(cron.parse(text), after, ZoneInfo("UTC"))


def test_reading_a_schedule_does_not_load_croniter() -> None:
    code = (
        "import sys; from agentd import cron;cron.parse('@daily'); print('croniter' in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
