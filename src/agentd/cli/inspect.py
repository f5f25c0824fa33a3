"""`agentd inspect`."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from .. import paths, wire
from ..client import connect
from .tables import print_json


def inspect(session: str, /, *, socket_path: Path | None = None) -> int:
    """Show all that is known of a session, live or past, as JSON.

    These are the facts of its record: what was asked, which image ran, how it ended and what was
    seen of it. Beside them stand the path of the record, and the state: that of a live session as
    'agentd ps' shows it, or closed or incomplete.

    For example:

        agentd inspect 3f9c
        agentd inspect 3f9c | jq .outcome

    Args:
        session: The session's id, or the beginning of it.
        socket_path: The daemon's socket, instead of $XDG_RUNTIME_DIR/agentd/agentd.sock.
    """
    told = trio.run(_inspect, paths.client_socket_path(socket_path, os.environ), session)
    print_json({"record": told.record, "state": told.state, **told.facts})
    return 0


async def _inspect(socket_path: Path, session: str) -> wire.Inspected:
    async with connect(socket_path) as client:
        return await client.inspect(session)
