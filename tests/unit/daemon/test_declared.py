"""What clients are told of the agents that a configuration declares."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import pytest

from agentd import config, wire
from agentd.current import Current
from agentd.daemon.declared import Declared
from agentd.daemon.scheduler import Scheduler
from agentd.errors import InvalidInvocation
from agentd.supervisor import Supervisor
from tests.unit.builders import agent


@pytest.mark.parametrize(
    ("after", "zone"),
    [
        (datetime(9999, 12, 31, tzinfo=UTC), "UTC"),
        (datetime(1, 1, 1, tzinfo=UTC), "America/New_York"),
    ],
)
async def test_instants_that_no_calendar_has_cannot_be_asked_for(
    after: datetime, zone: str
) -> None:
    current = Current(config.Config(config.Daemon(), (agent(schedule="@daily"),)))
    scheduler = cast(Scheduler, SimpleNamespace(zone=ZoneInfo(zone)))
    declared = Declared(current, cast(Supervisor, None), Path("/r"), scheduler)
    with pytest.raises(InvalidInvocation, match="no calendar here"):
        await declared.instants(wire.GetSchedule(agent="builder", after=after))
