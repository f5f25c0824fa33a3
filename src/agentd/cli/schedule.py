"""`agentd schedule`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from .. import wire
from ..client import connect
from ..errors import UsageError
from .daemon_socket import USUAL, DaemonSocket
from .tables import print_json


def schedule(
    agent: str,
    /,
    *,
    next_: Annotated[int, Parameter(name="--next")] = 10,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    json: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Show when an agent's schedule fires next, in the daemon's local time, and what clocks that
    change do to it.

    For example:

        agentd schedule site-builder
        agentd schedule site-builder --next 3 --from 2026-03-28T00:00+01:00

    Args:
        agent: The agent's name, as the daemon's configuration declares it.
        next_: How many instants.
        from_: Those after this instant, ISO 8601 with an offset, instead of now; of the years
            1970 to 9000.
        json: A JSON object with the schedule, its zone, and the instants.
    """
    if not 1 <= next_ <= wire.MAX_INSTANTS:
        raise UsageError(f"--next: {next_} is not between 1 and {wire.MAX_INSTANTS}")
    after = instant(from_)
    daemon_socket = daemon.path()
    told = trio.run(_schedule, daemon_socket, agent, next_, after)
    if json:
        print_json(told)
    else:
        print("\n".join(lines(told)))
    return 0


async def _schedule(
    socket_path: Path, agent: str, count: int, after: datetime.datetime | None
) -> wire.Instants:
    async with connect(socket_path) as client:
        return await client.schedule(agent, count=count, after=after)


def instant(text: str | None, option: str = "--from") -> datetime.datetime | None:
    """The instant that an option names.

    Raises:
        UsageError: it is none, or leaves open which by having no offset.
    """
    if text is None:
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is no instant; write it as 2026-03-28T00:00+01:00"
        ) from None
    if parsed.tzinfo is None:
        raise UsageError(f"{option}: {text!r} has no offset; add Z, or one such as +01:00")
    return parsed


def lines(told: wire.Instants) -> list[str]:
    """What is shown: the schedule, and an instant a line."""
    return [f"'{told.schedule}' in {told.zone}"] + [
        f"{each.at:%a %Y-%m-%d %H:%M %z}" + (f"  {each.note}" if each.note else "")
        for each in told.instants
    ]
