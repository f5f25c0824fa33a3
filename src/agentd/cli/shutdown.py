"""`agentd shutdown`."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from .. import wire
from ..client import connect
from .daemon_socket import USUAL, DaemonSocket


def shutdown(*, leave: bool = False, daemon: DaemonSocket = USUAL) -> int:
    """End the daemon, and wait until it has no session any more.

    It takes nothing new in, as after SIGTERM, and live sessions go on to their ends. The daemon
    goes on ending when this command is interrupted.

    For example:

        agentd shutdown
        agentd shutdown --leave

    Args:
        leave: Leave the live sessions to the next daemon, as SIGUSR1 does; nothing is waited for.
    """
    trio.run(_shutdown, daemon.path(), leave)
    return 0


async def _shutdown(socket_path: Path, leave: bool) -> None:
    def started(event: wire.ShutdownStarted) -> None:
        if event.sessions:
            done = "left to the next daemon" if leave else "waited for"
            plural = "" if event.sessions == 1 else "s"
            say(f"{event.sessions} live or waiting session{plural} {done}")

    async with connect(socket_path) as client:
        await client.shutdown(leave=leave, started=started)
    print("agentd has ended")


def say(text: str) -> None:
    """A word of our own beside the result."""
    print(f"agentd: {text}", file=sys.stderr, flush=True)
