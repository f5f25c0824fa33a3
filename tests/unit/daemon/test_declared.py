"""When schedules fire, as clients are told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pytest

from agentd import config, cron, wire
from agentd.current import Current
from agentd.daemon.declared import FIRST_YEAR, Declared
from agentd.daemon.scheduler import Dispatch, Scheduler
from agentd.errors import UsageError
from agentd.supervisor import Supervisor
from tests.unit import builders

NOBODY = cast(Supervisor, None)
NEVER = cast(Dispatch, None)


async def instants(schedule: str, after: str, count: int = 3) -> list[str]:
    """What a client hears that asks for the instants after one, with its offset."""
    agent = builders.agent(schedule=schedule)
    current = Current(config.Config(config.Daemon(), (agent,)))
    scheduler = Scheduler(current, lambda: ZoneInfo("Europe/Berlin"), NEVER)
    scheduler.prepare(current.config)
    declared = Declared(current, NOBODY, Path("/nowhere"), scheduler)
    request = wire.GetSchedule(agent=agent.name, count=count, after=datetime.fromisoformat(after))
    told = await declared.instants(request)
    return [f"{each.at:%Y-%m-%d %H:%M%z}" for each in told.instants]


@pytest.mark.contract("SCH-02")
async def test_instants_are_told_in_the_daemons_local_time() -> None:
    assert await instants("30 2 * * *", "2026-03-28T00:00+01:00") == [
        "2026-03-28 02:30+0100",
        "2026-03-29 03:00+0200",
        "2026-03-30 02:30+0200",
    ]


@pytest.mark.parametrize(
    "after",
    [
        "0001-01-01T00:00+01:00",
        "1969-12-31T23:59+00:00",
        "9001-01-01T00:00Z",
        "9999-12-31T23:59-12:00",
    ],
)
async def test_years_of_which_nothing_can_be_told_are_refused_with_those_that_can(
    after: str,
) -> None:
    with pytest.raises(UsageError, match=f"between {FIRST_YEAR} and {cron.LAST_YEAR}"):
        await instants("* * * * *", after)


@pytest.mark.parametrize("offset", [-12, 14])
async def test_the_first_and_the_last_year_are_told_of(offset: int) -> None:
    zone = timezone(timedelta(hours=offset))
    for year in (FIRST_YEAR, cron.LAST_YEAR):
        assert len(await instants("* * * * *", datetime(year, 1, 1, tzinfo=zone).isoformat())) == 3


async def test_instants_end_where_the_calendar_does() -> None:
    after = f"{cron.LAST_YEAR}-12-30T12:00Z"
    assert await instants("0 12 * * *", after, 1000) == [f"{cron.LAST_YEAR}-12-31 12:00+0100"]
