"""`agentd status`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from .. import wire
from ..client import connect
from ..errors import EXIT_INFRASTRUCTURE, UsageError
from .daemon_socket import USUAL, DaemonSocket
from .duration import duration
from .printable import printable
from .tables import print_json, span

WAIT_SECONDS = 30.0


def status(
    *,
    wait: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=(0, 1))] = None,
    json: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Show how the daemon does. It can be a container's health check.

    The exit status is 0 when the daemon takes requests and Podman answers it, else 6.

    For example:

        agentd status
        agentd status --wait
        agentd status --wait 2m --json

    Args:
        wait: Wait until both are so, 30s at most, or as long as is said here, such as 2m.
        json: A JSON object.
    """
    if wait is None:
        told = trio.run(_status, daemon.path())
    else:
        if daemon.discover:
            raise UsageError("--wait needs to know where the daemon will be: use --socket-path")
        from ..readiness import wait_ready  # noqa: PLC0415 - it watches files

        seconds = duration(wait[0], "--wait") if wait else WAIT_SECONDS
        told = trio.run(wait_ready, daemon.path(), seconds)
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
        podman += f": does not answer: {printable(told.podman_error)}"
    return [
        f"agentd    {told.version}, ready, up {span(now - told.started_at)}",
        f"sessions  {told.sessions} live, {told.queued} in the queue",
        f"podman    {podman}",
    ]
