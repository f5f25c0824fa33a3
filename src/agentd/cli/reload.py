"""`agentd reload`."""

from __future__ import annotations

from pathlib import Path

import trio

from .. import wire
from ..client import connect
from .daemon_socket import USUAL, DaemonSocket
from .tables import columns, print_json


def reload(*, json: bool = False, daemon: DaemonSocket = USUAL) -> int:
    """Have the daemon read its configuration again, as SIGHUP does, and show what has changed.

    Sessions that live or wait for their place keep what they were started with. A file that cannot
    be used changes nothing, and all that is wrong with it is told. What is new in the environment,
    such as the value of a credential, needs a restart.

    For example:

        agentd reload
        agentd reload --json

    Args:
        json: A JSON object with the names of what has changed.
    """
    told = trio.run(_reload, daemon.path())
    if json:
        print_json(told)
    else:
        print("\n".join(lines(told)))
    return 0


async def _reload(socket_path: Path) -> wire.Reloaded:
    async with connect(socket_path) as client:
        return await client.reload()


def lines(told: wire.Reloaded) -> list[str]:
    """What is shown, a change a line."""
    rows = [
        *(("added", name) for name in told.added),
        *(("removed", name) for name in told.removed),
        *(("changed", f"{name}: {', '.join(keys)}") for name, keys in told.changed.items()),
        *(("daemon", key) for key in told.daemon),
    ]
    if not rows:
        return [f"{told.config} was read: nothing has changed"]
    return [f"{told.config} was read", *columns(rows).splitlines()]
