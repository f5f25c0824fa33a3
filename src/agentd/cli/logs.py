"""`agentd logs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from ..client import connect
from .daemon_socket import USUAL, DaemonSocket
from .show import Show


def logs(
    session: str,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f")] = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Show the output of a session, live or past.

    The agent's standard output goes to standard output, its standard error to standard error;
    values of credentials are masked.

    For example:

        agentd logs 3f9c
        agentd logs -f 3f9c2b6a41d07e58

    Args:
        session: The session's id, or the beginning of it.
        follow: Go on until the session has ended.
    """
    trio.run(_logs, daemon.path(), session, follow)
    return 0


async def _logs(socket_path: Path, session: str, follow: bool) -> None:
    show = Show()
    async with (
        connect(socket_path) as client,
        client.logs(session, follow=follow) as output,
    ):
        async for event in output:
            await show.event(event)
