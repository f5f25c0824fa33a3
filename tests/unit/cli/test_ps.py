"""The table of `agentd ps`."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from agentd import wire
from agentd.cli.ps import ending, past_facts, past_row, row
from tests.unit.builders import NOON, SESSION, SESSION_INFO


def test_a_session_is_one_row() -> None:
    now = NOON + datetime.timedelta(minutes=5)
    assert row(SESSION_INFO, now) == (SESSION, "builder", "running", "5m0s", "-", "manual")


def test_a_deadline_is_shown_as_the_time_that_is_left() -> None:
    limited = msgspec.structs.replace(SESSION_INFO, deadline=NOON + datetime.timedelta(hours=2))
    assert row(limited, NOON)[4] == "2h0m"


PAST = wire.PastSession(
    session_id=SESSION,
    agent="builder",
    started_at=NOON,
    record="/r",
    trigger="schedule",
    ended_at=NOON,
    outcome="success",
    exit_code=0,
)


def test_a_past_session_shows_how_it_ended() -> None:
    now = NOON + datetime.timedelta(days=2)
    assert past_row(PAST, now) == (SESSION, "builder", "success", "2d0h", "-", "schedule")


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"outcome": None, "exit_code": None}, "incomplete"),
        ({"outcome": "work_failed", "exit_code": 5}, "work_failed"),
        ({"outcome": "generic_failure", "exit_code": 23}, "generic_failure (exit code 23)"),
        (
            {"outcome": "terminated_by_signal", "exit_code": 137, "signal": 9},
            "terminated_by_signal (signal 9)",
        ),
        ({"outcome": "timed_out", "exit_code": None}, "timed_out"),
        (
            {"outcome": "error", "exit_code": None, "error_code": "host_rebooted"},
            "error (host_rebooted)",
        ),
    ],
)
def test_an_ending_is_a_few_words(facts: dict[str, object], text: str) -> None:
    assert ending(msgspec.structs.replace(PAST, **facts)) == text


def test_json_tells_past_sessions_from_live_ones() -> None:
    closed, left = PAST, msgspec.structs.replace(PAST, outcome=None)
    assert [past_facts(each)["state"] for each in (closed, left)] == ["closed", "incomplete"]
