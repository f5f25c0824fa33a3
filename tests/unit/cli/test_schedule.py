"""`agentd schedule` and `agentd agents`: their words."""

from __future__ import annotations

import datetime

import pytest

from agentd import wire
from agentd.cli import agents
from agentd.cli.schedule import instant, lines
from agentd.errors import UsageError
from tests.unit.builders import NOON, SESSION

BERLIN = datetime.timezone(datetime.timedelta(hours=1))


def test_an_instant_is_a_line_with_its_offset_and_its_note() -> None:
    at = datetime.datetime(2026, 3, 28, 2, 30, tzinfo=BERLIN)
    told = wire.Instants(
        schedule="30 2 * * *",
        zone="Europe/Berlin",
        instants=(wire.Instant(at=at), wire.Instant(at=at, note="why")),
    )
    assert lines(told) == [
        "'30 2 * * *' in Europe/Berlin",
        "Sat 2026-03-28 02:30 +0100",
        "Sat 2026-03-28 02:30 +0100  why",
    ]


def test_from_is_an_instant_with_an_offset() -> None:
    assert instant("2026-03-28T00:00+01:00") == datetime.datetime(2026, 3, 28, tzinfo=BERLIN)
    assert instant(None) is None


@pytest.mark.parametrize("text", ["tomorrow", "2026-03-28T00:00", "", "2026-13-01T00:00Z"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--from"):
        instant(text)


def test_an_agent_is_a_row() -> None:
    last = wire.PastSession(
        session_id=SESSION,
        agent="builder",
        started_at=NOON,
        record="/r",
        trigger="schedule",
        ended_at=NOON,
        outcome="success",
    )
    agent = wire.AgentInfo(
        name="builder",
        base_image="i",
        schedule="@daily",
        next_fire=datetime.datetime(2026, 3, 28, tzinfo=BERLIN),
        live=2,
        last=last,
    )
    now = NOON + datetime.timedelta(hours=1)
    assert agents.row(agent, now) == (
        *("builder", "@daily", "2026-03-28 00:00 +0100", "2", "success, 1h0m ago"),
    )
    bare = wire.AgentInfo(name="plain", base_image="i")
    assert agents.row(bare, now) == ("plain", "-", "-", "0", "-")
