"""`agentd status`."""

from __future__ import annotations

import datetime
from pathlib import Path

import trio

from .. import wire
from ..client import connect
from ..errors import EXIT_INFRASTRUCTURE
from .daemon_socket import USUAL, DaemonSocket
from .tables import print_json, span


def status(*, json: bool = False, daemon: DaemonSocket = USUAL) -> int:
    """Show how the daemon does. It can be a container's health check.

    The exit status is 0 when the daemon takes requests and Podman answers it, else 6.

    Args:
        json: A JSON object.
    """
    daemon_socket = daemon.path()
    told = trio.run(_status, daemon_socket)
    if json:
        print_json(told)
    else:
        print("\n".join(lines(told, datetime.datetime.now(datetime.UTC))))
    return 0 if told.podman_error is None else EXIT_INFRASTRUCTURE


async def _status(socket_path: Path) -> wire.Status:
    async with connect(socket_path) as client:
        return await client.status()


def lines(told: wire.Status, now: datetime.datetime) -> list[str]:
    """What is shown, a fact a line."""
    mode = "rootless" if told.rootless else "rootful"
    podman = f"{told.podman_version}, {mode}, {told.podman_socket}"
    if told.podman_error is not None:
        podman += f": does not answer: {told.podman_error}"
    return [
        f"agentd    {told.version}, ready, up {span(now - told.started_at)}",
        f"sessions  {told.sessions} live, {told.queued} in the queue",
        f"podman    {podman}",
    ]
