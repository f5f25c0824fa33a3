"""The table of `agentd ps`."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from agentd.cli.ps import row, span, table
from tests.unit.builders import NOON, SESSION, SESSION_INFO


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (59.4, "59s"),
        (60, "1m0s"),
        (3599, "59m59s"),
        (3600, "1h0m"),
        (90061, "1d1h"),
    ],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert span(datetime.timedelta(seconds=seconds)) == text


def test_a_session_is_one_row() -> None:
    now = NOON + datetime.timedelta(minutes=5)
    assert row(SESSION_INFO, now) == (SESSION, "builder", "running", "5m0s", "-", "manual")


def test_a_deadline_is_shown_as_the_time_that_is_left() -> None:
    limited = msgspec.structs.replace(SESSION_INFO, deadline=NOON + datetime.timedelta(hours=2))
    assert row(limited, NOON)[4] == "2h0m"


def test_columns_are_as_wide_as_their_widest_word() -> None:
    assert table([("A", "LONG"), ("wider", "x")]) == "A      LONG\nwider  x"
