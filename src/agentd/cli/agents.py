"""`agentd agents`."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import trio

from .. import paths, wire
from ..client import connect
from .ps import ending
from .tables import ago, columns, print_json

HEADINGS = ("AGENT", "SCHEDULE", "NEXT FIRE", "LIVE", "LAST OUTCOME")


def agents(*, json: bool = False, socket_path: Path | None = None) -> int:
    """Show the declared agents: their schedules, when each fires next, and how it last ended.

    Args:
        json: A JSON object with the time zone of the schedules and the agents.
        socket_path: The daemon's socket, instead of $XDG_RUNTIME_DIR/agentd/agentd.sock.
    """
    told = trio.run(_agents, paths.client_socket_path(socket_path, os.environ))
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
