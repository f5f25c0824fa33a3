"""`agentd agents`."""

from __future__ import annotations

import datetime
from pathlib import Path

import trio

from .. import wire
from ..client import connect
from .daemon_socket import USUAL, DaemonSocket
from .ps import ending
from .tables import ago, columns, print_json

HEADINGS = ("AGENT", "SCHEDULE", "NEXT FIRE", "LIVE", "LAST OUTCOME")


def agents(*, json: bool = False, daemon: DaemonSocket = USUAL) -> int:
    """Show the declared agents: their schedules, when each fires next, and how it last ended.

    For example:

        agentd agents
        agentd agents --json

    Args:
        json: A JSON object with the time zone of the schedules and the agents.
    """
    told = trio.run(_agents, daemon.path())
    if json:
        print_json(told)
        return 0
    now = datetime.datetime.now(datetime.UTC)
    print(columns([HEADINGS, *(row(agent, now) for agent in told.agents)]))
    return 0


async def _agents(socket_path: Path) -> wire.Agents:
    async with connect(socket_path) as client:
        return await client.agents()


def row(agent: wire.AgentInfo, now: datetime.datetime) -> tuple[str, ...]:
    """The words of one agent's line, in the order of `HEADINGS`."""
    last = "-"
    if agent.last is not None and agent.last.ended_at is not None:
        last = f"{ending(agent.last)}, {ago(agent.last.ended_at, now)}"
    return (
        agent.name,
        agent.schedule or "-",
        "-" if agent.next_fire is None else f"{agent.next_fire:%Y-%m-%d %H:%M %z}",
        str(agent.live),
        last,
    )
