"""Columns, lengths of time, and JSON."""

from __future__ import annotations

import datetime

import pytest

from agentd.cli.tables import ago, columns, print_json, span
from tests.unit.builders import NOON


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


def test_columns_are_as_wide_as_their_widest_word() -> None:
    assert columns([("A", "LONG"), ("wider", "x")]) == "A      LONG\nwider  x"


def test_what_is_past_is_so_long_ago() -> None:
    assert ago(NOON, NOON + datetime.timedelta(hours=3, minutes=5)) == "3h5m ago"


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": NOON, "no": None})
    assert capsys.readouterr().out == (
        '{\n  "at": "' + NOON.isoformat().replace("+00:00", "Z") + '",\n  "no": null\n}\n'
    )
